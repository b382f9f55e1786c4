"""The register of known outputs: embedded by default, a database server for teams; what is near this?"""
