"""recursion"""
