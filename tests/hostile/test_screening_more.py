"""More corpora that are made to hurt: odd types and names in tables, files that change or aren't files, folders that were damaged."""

from __future__ import annotations

import json
import os
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studbook.cli.rendering import show_json, show_table
from studbook.errors import ConfigError, DataError, RecordError, RegisterError, RegisterUnavailableError, RunFolderError
from studbook.registry import Register
from studbook.screening import Limits, Screen, screen_corpus
from studbook.screening.settings import open_screen
from studbook.screening.strata import text_column, witnesses_of
from studbook.screening.witnesses import RegisterWitness


class TestTables:
    @pytest.mark.parametrize("value", ["text", 3, [b"x"], {"x": b"y"}], ids=["text", "number", "list", "struct"])
    def test_pictures_whose_bytes_are_none(self, run, corpus, screen, tmp_path, value):
        pq.write_table(pa.table({"text": [{"bytes": value}]}), corpus / "a.parquet")
        assert "holds no bytes" in run(corpus, screen, tmp_path)[1]["a.parquet#0"]

    def test_views(self, run, corpus, screen, screening_site, tmp_path):
        texts = pa.array(["a robot", "a person", None])
        views, nested = texts.cast(pa.string_view()), pa.array([["x"], ["y"], ["z"]], pa.list_(pa.string_view()))
        table = pa.table({"text": views, "other": views, "nested": nested, "data": texts.cast(pa.binary()).cast(pa.binary_view())})
        pq.write_table(table, corpus / "a.parquet")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["rejected"] == 1 and summary["read"] == 3 and reasons == {"a.parquet#2": "its text is missing"}
        assert "a robot" in screening_site.column(tmp_path / "out", "rejected", "other")

    def test_columns_of_one_name(self, run, corpus, screen, screening_site, tmp_path):
        (corpus / "good.txt").unlink()
        columns = [pa.array([text]) for text in ("a robot", "second", "third", "x")]
        pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "text", "text_2"]), corpus / "a.parquet")
        assert run(corpus, screen, tmp_path)[0]["rejected"] == 1
        row = next(screening_site.tables(tmp_path / "out", "rejected")).to_pylist()[0]
        assert (row["text"], row["text_2"], row["text_3"], row["text_2_2"]) == ("a robot", "second", "third", "x")

    def test_the_text_may_stand_in_a_column_that_the_screen_writes(self, run, corpus, screen, screening_site, tmp_path):
        rows = [{"content": "a robot", "original_content": "mine", "original_original_content": "too"}]
        (corpus / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(corpus, screen, tmp_path, column="content")
        row = next(screening_site.tables(tmp_path / "out", "rejected")).to_pylist()[0]
        assert row[text_column(tmp_path / "out")] == "a robot" and row["content"].startswith("sha256:")
        assert row["original_original_content"] == "mine" and row["original_original_original_content"] == "too"

    def test_one_table_without_the_column_stops_nothing(self, run, corpus, screen, tmp_path):
        pq.write_table(pa.table({"body": ["x"]}), corpus / "a.parquet")
        pq.write_table(pa.table({"text": ["a robot"]}), corpus / "b.parquet")
        summary, reasons = run(corpus, screen, tmp_path)
        assert summary["read"] == 2 and reasons == {"a.parquet": "has no column 'text', but body"}
        with pytest.raises(ConfigError, match="has no column 'nothing', but body"):
            screen_corpus([corpus], tmp_path / "other", screen, column="nothing")

    def test_a_corpus_of_empty_tables(self, run, corpus, screen, tmp_path):
        (corpus / "good.txt").unlink()
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), corpus / "a.parquet")
        with pytest.raises(DataError, match="has no records"):
            run(corpus, screen, tmp_path)


class TestLines:
    def test_half_surrogate_pairs_inside(self, run, corpus, screen, screening_site, tmp_path):
        (corpus / "good.txt").unlink()
        (corpus / "a.jsonl").write_bytes(b'{"text":"a","x":["\\ud800"],"y":{"\\ud800":1},"z\\ud800":1,"w":"\\ud800"}')
        assert run(corpus, screen, tmp_path)[0]["read"] == 1
        row = next(screening_site.tables(tmp_path / "out", "kept")).to_pylist()[0]
        assert row["x"] == '["\\ud800"]' and row["w"] == "\\ud800" and row["z\\ud800"] == 1

    def test_keys_that_are_all_different(self, run, corpus, screen, screening_site, tmp_path):
        rows = [{"text": "a", **{f"k{i}_{j}": j for j in range(50)}} for i in range(200)]
        (corpus / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run(corpus, screen, tmp_path)[0]["read"] == 201
        table = next(screening_site.tables(tmp_path / "out", "kept"))
        assert table.num_columns < 1100
        last = table.to_pylist()[-1]
        assert json.loads(last["more_fields"]) == {f"k199_{j}": j for j in range(50)}

    def test_signs_that_are_no_letters(self, run, corpus, screen, screening_site, tmp_path):
        texts = ["a\0b", "\ufeffrobot", "\u0301" * 5, "\r\nx\r\n", "\u202egnp.exe", "\x1b[2J"]
        (corpus / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps({"text": text}) for text in texts).encode())
        assert run(corpus, screen, tmp_path)[0]["read"] == 7
        assert screening_site.column(tmp_path / "out", "kept", "text")[:6] == texts


class TestPlaces:
    def test_what_is_named_must_be_a_file_or_a_folder(self, screen, tmp_path):
        os.mkfifo(tmp_path / "pipe.jsonl")
        (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
        (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
        for place in ("pipe.jsonl", "zero.jsonl"):
            with pytest.raises(DataError, match="neither a plain file nor a folder"):
                screen_corpus([tmp_path / place], tmp_path / "out", screen)
        for place in ("loop.txt", "x" * 5000, "a\0b", "good.txt/x"):
            with pytest.raises(DataError, match="there is no"):
                screen_corpus([tmp_path / place], tmp_path / "out", screen)

    def test_a_link_that_is_named_is_followed_under_its_own_name(self, corpus, screen, screening_site, tmp_path):
        (tmp_path / "blob").write_text("a robot")
        (tmp_path / "data.txt").symlink_to(tmp_path / "blob")
        assert screen_corpus([tmp_path / "data.txt"], tmp_path / "out", screen)["rejected"] == 1
        assert screening_site.column(tmp_path / "out", "rejected", "record") == ["data.txt"]

    @pytest.mark.parametrize("kind", ["pipe", "link", "gone"])
    @pytest.mark.parametrize("name", ["b.txt", "b.jsonl", "b.parquet", "b.tar"])
    def test_a_file_that_becomes_something_else_is_not_read(self, corpus, screening_site, tmp_path, kind, name):
        victim = corpus / name
        victim.write_text("b")
        (tmp_path / "secret").write_text("secret")

        class Swaps(screening_site.Knows):
            def examine(self, records):
                if not victim.is_symlink() and victim.is_file():
                    victim.unlink()
                    if kind == "pipe":
                        os.mkfifo(victim)
                    elif kind == "link":
                        victim.symlink_to(tmp_path / "secret")
                return super().examine(records)

        (corpus / "a.jsonl").write_text('{"text": "a robot"}\n')
        with pytest.raises(DataError, match=r"changed while it was screened|can't be read any more"):
            screen_corpus([corpus], tmp_path / "out", Screen((Swaps("robots", "detector", "robot"),)))
        assert "secret" not in "".join(screening_site.column(tmp_path / "out", "kept", "text"))

    def test_a_file_that_grows_meanwhile_is_noticed(self, corpus, screening_site, tmp_path):
        class Grows(screening_site.Knows):
            def examine(self, records):
                with (corpus / "good.txt").open("a") as file:
                    file.write("more")
                return super().examine(records)

        with pytest.raises(DataError, match=r"corpus/good.txt was changed while it was screened"):
            screen_corpus([corpus], tmp_path / "out", Screen((Grows("robots", "detector", "robot"),)))
        assert not (tmp_path / "out" / "summary.json").exists()

    def test_its_own_output_is_not_read(self, corpus, screen):
        first = screen_corpus([corpus], corpus / "out", screen)
        assert screen_corpus([corpus], corpus / "out", screen) == first and first["read"] == 1
        link = corpus.parent / "link"
        link.symlink_to(corpus / "out")
        assert screen_corpus([corpus], link, screen) == first


class TestFolders:
    @pytest.fixture
    def half(self, corpus, screen, tmp_path):
        screen_corpus([corpus], tmp_path / "out", screen)
        (tmp_path / "out" / "summary.json").unlink()
        return tmp_path / "out"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b"\xff", b'{"schema":"studbook.screen/9"}'])
    def test_damaged_settings(self, corpus, screen, half, content):
        (half / "screen.json").write_bytes(content)
        with pytest.raises((RunFolderError, RecordError)):
            screen_corpus([corpus], half, screen)

    @pytest.mark.parametrize(
        "change",
        [
            {"position": "a"}, {"position": -1}, {"last": "x"}, {"counts": []}, {"counts": {"evil/x": 1}}, {"counts": {"human/none": 5}},
            {"kept": True}, {"rejected": None}, {"skipped": {}}, {"files": 3}, {"files": {"kept/x.parquet": 3}}, {"more": 1},
            {"sizes": None}, {"sizes": {"register": 5}}, {"sizes": {"register": {"entries": -1}}},
            {"sizes": {"register": {"entries": True}}},
        ],
        ids=str,
    )  # fmt: skip
    def test_damaged_markers(self, corpus, screen, half, change):
        path = half / "pieces" / "part-000000-000000.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(RunFolderError, match=r"part-000000-000000.json is damaged"):
            screen_corpus([corpus], half, screen)

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff"])
    def test_markers_that_are_none(self, corpus, screen, half, content):
        (half / "pieces" / "part-000000-000000.json").write_bytes(content)
        with pytest.raises(RunFolderError, match=r"part-000000-000000.json (is damaged|can't be read)"):
            screen_corpus([corpus], half, screen)

    def test_a_piece_that_was_lost_is_made_again(self, corpus, screen, half, tmp_path):
        lost = half / "kept" / "part-000000-000000.parquet"
        data = lost.read_bytes()
        lost.unlink()
        screen_corpus([corpus], half, screen)
        assert lost.read_bytes() == data

    @pytest.mark.parametrize("content", [b"{}", b"[]", b'{"witnesses":5}', b'{"witnesses":{"a":1}}', b'{"witnesses":[1,{"name":[]}]}'])
    def test_settings_that_say_nothing_of_witnesses(self, half, content):
        (half / "screen.json").write_bytes(content)
        assert witnesses_of(half) == {}
        assert text_column(half) is None


class TestScreenFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("trust_calibrations = ['absent']", "the public key .*absent can't be read: No such file"),
            ("trust_calibrations = ['.']", "can't be read: Is a directory"),
            ("[signature]\ntrust = ['root.pem']\nsigners = 'Somebody'", "signature.signers is 'Somebody', expected a list of names"),
            ("[signature]\ntrust = ['root.pem']\nsigners = [1]", "signature.signers is .1., expected a list of names"),
            ("[register]", "register.location is None, expected a path"),
            ("[register]\nlocation = ['a']", "register.location is .'a'., expected a path"),
            ("[watermark]\nkind = ['kgw']", "watermark.kind is .'kgw'., expected one of"),
            ("watermark = [3]", "watermark is 3, expected a table"),
            ("register = 1979-05-27", "expected a table"),
        ],
    )
    def test_wrong_types(self, tmp_path, text, message):
        path = tmp_path / "screen.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            open_screen(path)


class TestTerminal:
    def test_names_and_reasons_control_nothing(self, capsys):
        show_table([{"a\x1b": "\x1b[2J\x9b31m\u202e\ud800 é 中"}])
        show_json({"a": "\x1b[2J\x9b31m\u202e\ud800 é 中 \U000e0001"})
        out = capsys.readouterr().out
        assert not {"\x1b", "\x9b", "\u202e", "\ud800", "\U000e0001"} & set(out) and out.count("é 中") == 2
        assert json.loads(out[out.index("{") :])["a"].endswith("\u202e\ud800 é 中 \U000e0001")


class TestRegisterThatGoesAway:
    @pytest.fixture
    def ten(self, corpus):
        (corpus / "a.jsonl").write_text("".join(json.dumps({"text": f"one two three four five {i}"}) + "\n" for i in range(50)))
        return corpus

    def interrupted(self, corpus, register, tmp_path, act):
        class Loses(RegisterWitness):
            asked = 0

            def examine(self, records):
                type(self).asked += 1
                if self.asked == 3:
                    act()
                return super().examine(records)

        return screen_corpus([corpus], tmp_path / "out", Screen((Loses(register),)), limits=Limits(records=10))

    def test_a_file_that_is_cut_off(self, ten, tmp_path):
        place = tmp_path / "outputs.db"
        with Register.open(place, create=True) as register:
            register.add_texts(["one two three four five six seven eight"], model="writer")
        saved = place.read_bytes()
        with Register.open(place) as register, pytest.raises(RegisterError, match="is damaged"):
            self.interrupted(ten, register, tmp_path, lambda: os.truncate(place, 100))
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pieces").iterdir()}
        assert done and not (tmp_path / "out" / "summary.json").exists()
        for each in tmp_path.glob("outputs.db-*"):
            each.unlink()
        place.write_bytes(saved)
        with Register.open(place) as register:
            again = screen_corpus([ten], tmp_path / "out", Screen((RegisterWitness(register),)), limits=Limits(records=10))
        assert again["read"] == 51 and all(path.stat().st_mtime_ns == time for path, time in done.items())

    @pytest.mark.postgres
    def test_a_server_that_stops(self, ten, postgres_server, tmp_path):
        address = postgres_server.new_database()
        with Register.open(address, create=True) as register:
            register.add_texts(["one two three four five six seven eight"], model="writer")
        try:
            with Register.open(address) as register, pytest.raises(RegisterUnavailableError, match="can't be reached"):
                self.interrupted(ten, register, tmp_path, postgres_server.stop)
        finally:
            postgres_server.start()
        with Register.open(address) as register:
            again = screen_corpus([ten], tmp_path / "out", Screen((RegisterWitness(register),)), limits=Limits(records=10))
        assert again["read"] == 51


def test_an_interrupt_stops_at_once_and_leaves_a_folder_that_goes_on(corpus, screening_site, tmp_path):
    (corpus / "a.jsonl").write_text("".join(json.dumps({"text": f"{i}"}) + "\n" for i in range(50)))

    class Stops(screening_site.Knows):
        def examine(self, records):
            if records[0].text == "20":
                signal.raise_signal(signal.SIGINT)
            return super().examine(records)

    with pytest.raises(KeyboardInterrupt):
        screen_corpus([corpus], tmp_path / "out", Screen((Stops("robots", "detector", "robot"),)), limits=Limits(records=10))
    assert not list((tmp_path / "out").rglob(".writing-*")) and not (tmp_path / "out" / "summary.json").exists()
    again = Screen((screening_site.Knows("robots", "detector", "robot"),))
    assert screen_corpus([corpus], tmp_path / "out", again, limits=Limits(records=10))["read"] == 51


def test_the_summary_tells_the_commonest_reasons(run, corpus, screen, tmp_path):
    (corpus / "a.jsonl").write_bytes(b"[1]\n" + b'{"text": 3}\n' * 7 + b'{"text": "ok", "n": 1}\n\xff\n')
    (corpus / "b\x1b.exe").write_bytes(b"MZ")
    summary, _ = run(corpus, screen, tmp_path)
    assert summary["reasons"][0] == {"reason": "its text is int, expected a text", "records": 7}
    assert sum(each["records"] for each in summary["reasons"]) == summary["skipped"] == 10
    assert {"reason": "isn't UTF-8: byte … of the line can't be decoded", "records": 1} in summary["reasons"]


def test_a_document_that_no_witness_takes_passes_a_pipeline_unjudged(tmp_path):
    data, filters = pytest.importorskip("datatrove.data"), pytest.importorskip("studbook.screening.on_datatrove")
    with Register.open(tmp_path / "outputs.db", create=True) as register:
        register.add_texts(["one two three four five"], model="writer")
        texts = ["one two three four five", "x y " * 5_000_000, "\ud800", "", "another text"]
        documents = [data.Document(text=text, id=str(i)) for i, text in enumerate(texts)]
        kept = list(filters.ScreenFilter(Screen((RegisterWitness(register),))).run(documents))
    assert {each.id: each.metadata.get("origin") for each in kept} == {"1": None, "2": None, "3": None, "4": "unknown"}


@pytest.mark.parametrize("name", ["../../evil", "", ".hidden", "a\x1b"])
def test_a_witness_whose_name_leads_out_of_the_folder(screening_site, name):
    with pytest.raises(ConfigError, match="names no file"):
        Screen((screening_site.Knows(name, "detector", "robot"),))
