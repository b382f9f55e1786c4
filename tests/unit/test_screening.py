"""Screening a corpus: what is read, who decides, what is written, and the receipt."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from studbook.errors import ConfigError, DataError, FolderBusyError, RunFolderError, SignatureError
from studbook.provenance import SigningKey
from studbook.records import Finding
from studbook.screening import Limits, Record, Screen, screen_corpus
from studbook.screening.columns import NAMES
from studbook.screening.folder import ScreenFolder, check_screen


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, screening_site):
    return screening_site.make_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture
def screen(screening_site):
    return Screen((screening_site.Knows("robots", "detector", "robot", p_value=0.01),))


def record(text: str) -> Record:
    return Record("#0", "text", "sha256:" + 64 * "0", text=text)


class TestJudging:
    def test_stronger_evidence_decides_whatever_the_order(self, screening_site):
        knows = screening_site.Knows
        weak = knows("detector", "detector", "cat", "generated")
        strong = knows("c2pa", "signature", "cat", "human")
        for witnesses in ((weak, strong), (strong, weak)):
            judged = Screen(witnesses).judge([record("a cat"), record("a dog")])
            assert [each.origin for each in judged] == ["human", "unknown"]
            assert [each.witness for each in judged[0].findings] == ["c2pa", "detector"]
            assert judged[1].evidence == "none" and judged[1].reason == "no witness knows it"

    def test_a_finding_of_unknown_origin_decides_nothing_and_is_kept(self, screening_site):
        knows = screening_site.Knows
        judged = Screen((knows("c2pa", "signature", "cat", "unknown"), knows("kgw", "watermark", "cat"))).judge([record("cat")])[0]
        assert (judged.origin, judged.evidence, len(judged.findings)) == ("generated", "watermark", 2)

    def test_each_refuses_what_cannot_be_meant(self, screening_site):
        knows = screening_site.Knows
        with pytest.raises(ConfigError, match="no witness"):
            Screen(())
        with pytest.raises(ConfigError, match="one name"):
            Screen((knows("a", "detector", "x"), knows("a", "register", "x")))
        with pytest.raises(ConfigError, match="rejects 'robots'"):
            Screen((knows("a", "detector", "x"),), frozenset({"robots"}))

    def test_a_witness_that_loses_a_record_stops_the_screen(self, screening_site):
        class Short(screening_site.Knows):
            def examine(self, records):
                return []

        class Wrong(screening_site.Knows):
            def examine(self, records):
                return [Finding("signature", "x", "human", "pretends") for _ in records]

        with pytest.raises(DataError, match="0 findings for 1 records"):
            Screen((Short("a", "detector", "x"),)).judge([record("x")])
        with pytest.raises(DataError, match="of detector evidence gave a finding of signature"):
            Screen((Wrong("a", "detector", "x"),)).judge([record("x")])

    def test_only_kinds_that_a_witness_reads_are_shown_to_it(self, screening_site):
        class Texts(screening_site.Knows):
            kinds = frozenset({"text"})

            def examine(self, records):
                assert all(each.kind == "text" for each in records)
                return [None for _ in records]

        picture = Record("p", "image", "sha256:" + 64 * "0", data=b"x")
        assert [each.origin for each in Screen((Texts("a", "detector", "x"),)).judge([picture, record("x")])] == ["unknown", "unknown"]


class TestCorpus:
    def test_every_form_is_read_and_half_of_each_is_rejected(self, corpus, screen, screening_site, tmp_path):
        summary = screen_corpus([corpus], tmp_path / "out", screen)
        assert (summary["read"], summary["kept"], summary["rejected"], summary["skipped"]) == (53, 28, 25, 0)
        rejected = list(screening_site.tables(tmp_path / "out", "rejected"))
        assert all(set(NAMES) <= set(table.column_names) for table in rejected)
        assert {value for table in rejected for value in table["reason"].to_pylist()} == {"has the word robot"}
        assert set(screening_site.column(tmp_path / "out", "rejected", "p_value")) == {0.01}
        kept = screening_site.column(tmp_path / "out", "kept", "record")
        assert len(set(kept)) == 28 and "corpus/texts/0.txt" in kept and "corpus/set.tar.gz#0000" in kept
        findings = json.loads(screening_site.column(tmp_path / "out", "rejected", "findings")[0])
        assert findings[0]["witness"] == "robots"

    def test_the_records_keep_their_own_columns(self, corpus, screen, screening_site, tmp_path):
        screen_corpus([corpus], tmp_path / "out", screen)
        by_source = {table["record"][0].as_py().partition("#")[0]: table for table in screening_site.tables(tmp_path / "out", "kept")}
        assert by_source["corpus/table.parquet"]["original_origin"].to_pylist() == ["web"] * 5
        assert by_source["corpus/lines.jsonl"]["n"].to_pylist() == [0, 2, 4, 6, 8]
        assert json.loads(by_source["corpus/packed.jsonl.gz"]["tags"][1].as_py()) == ["a", 2]
        pictures = by_source["corpus/set.tar.gz"]
        assert sum(value is not None for value in pictures["data"].to_pylist()) == 3

    def test_one_text_has_one_content_in_every_form(self, corpus, screen, screening_site, tmp_path):
        screen_corpus([corpus], tmp_path / "out", screen)
        texts = zip(
            screening_site.column(tmp_path / "out", "kept", "record"),
            screening_site.column(tmp_path / "out", "kept", "content"),
            strict=True,
        )
        assert len({content for name, content in texts if "#p" not in name}) == 5

    def test_small_pieces_hold_the_same_records(self, corpus, screen, screening_site, tmp_path):
        screen_corpus([corpus], tmp_path / "one", screen)
        screen_corpus([corpus], tmp_path / "many", screen, limits=Limits(records=4))
        for part in ("kept", "rejected"):
            for name in ("record", "content", "origin"):
                assert screening_site.column(tmp_path / "one", part, name) == screening_site.column(tmp_path / "many", part, name)

    def test_annotating_alone_rejects_nothing(self, corpus, screening_site, tmp_path):
        screen = Screen((screening_site.Knows("robots", "detector", "robot"),), frozenset())
        summary = screen_corpus([corpus], tmp_path / "out", screen)
        assert summary["rejected"] == 0 and not (tmp_path / "out" / "rejected").exists()

    def test_a_stopped_screen_goes_on_and_gives_the_same(self, corpus, screening_site, tmp_path):
        class Stops(screening_site.Knows):
            left = 3

            def examine(self, records):
                Stops.left -= 1
                if Stops.left == 0:
                    raise KeyboardInterrupt
                return super().examine(records)

        limits = Limits(records=4)
        with pytest.raises(KeyboardInterrupt):
            screen_corpus([corpus], tmp_path / "out", Screen((Stops("robots", "detector", "robot"),)), limits=limits)
        with pytest.raises(RunFolderError, match="no finished screen"):
            ScreenFolder(tmp_path / "out").summary()
        whole = Screen((screening_site.Knows("robots", "detector", "robot"),))
        again = screen_corpus([corpus], tmp_path / "out", whole, limits=limits)
        assert again == screen_corpus([corpus], tmp_path / "whole", whole, limits=limits)
        for path in sorted((tmp_path / "whole").rglob("part-*")):
            assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()

    def test_another_screen_in_the_folder_is_refused(self, corpus, screen, screening_site, tmp_path):
        screen_corpus([corpus], tmp_path / "out", screen)
        with pytest.raises(RunFolderError, match="another screen, which differs in witnesses"):
            screen_corpus([corpus], tmp_path / "out", Screen((screening_site.Knows("robots", "detector", "person"),)))
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("precious")
        with pytest.raises(RunFolderError, match="isn't empty"):
            screen_corpus([corpus], tmp_path / "full", screen)

    def test_two_screens_of_one_folder(self, corpus, screen, tmp_path):
        with ScreenFolder(tmp_path / "out").locked(), pytest.raises(FolderBusyError):
            screen_corpus([corpus], tmp_path / "out", screen)

    def test_nothing_to_screen(self, screen, tmp_path):
        with pytest.raises(DataError, match="there is no"):
            screen_corpus([tmp_path / "absent"], tmp_path / "out", screen)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "program.exe").write_bytes(b"MZ")
        with pytest.raises(ConfigError, match="nothing to screen"):
            screen_corpus([tmp_path / "in"], tmp_path / "out", screen)
        (tmp_path / "in" / "a.txt").write_text("")
        with pytest.raises(DataError, match="2 were skipped, most of all because: its text is empty"):
            screen_corpus([tmp_path / "in"], tmp_path / "out", screen)

    def test_a_table_without_the_column(self, screen, corpus, tmp_path):
        with pytest.raises(ConfigError, match=r"table.parquet has no column 'body', but text, origin .name it with --column."):
            screen_corpus([corpus / "table.parquet"], tmp_path / "out", screen, column="body")


class TestReceipt:
    @pytest.fixture
    def screened(self, corpus, screen, tmp_path):
        key = SigningKey.generate()
        screen_corpus([corpus], tmp_path / "out", screen, key=key)
        return tmp_path / "out", key

    def test_it_counts_and_names_what_decided(self, screened):
        out, key = screened
        receipt = check_screen(out, keys={key.public}).record
        assert (receipt.read, receipt.kept, receipt.rejected) == (53, 28, 25)
        assert json.loads(receipt.settings)["witnesses"][0]["word"] == "robot"

    def test_a_changed_file_is_named(self, screened):
        out, _ = screened
        path = sorted((out / "kept").glob("*.parquet"))[1]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(SignatureError, match=path.name):
            check_screen(out)

    @pytest.mark.parametrize("name", ["summary.json", "screen.json", "skipped/passed-over.jsonl", "calibrations/robots.json"])
    def test_what_the_estimate_goes_by_is_covered(self, screening_site, corpus, tmp_path, name):
        witness = screening_site.Knows("robots", "detector", "robot")
        witness.signed_calibration = b"{}"
        screen_corpus([corpus], tmp_path / "out", Screen((witness,)), key=SigningKey.generate())
        check_screen(tmp_path / "out")
        screen_corpus([corpus], tmp_path / "out", Screen((witness,)))  # again, without a key: it still holds
        check_screen(tmp_path / "out")
        (tmp_path / "out" / name).write_text(" ")
        with pytest.raises(SignatureError, match=f"{name.rpartition('/')[2]} was changed"):
            check_screen(tmp_path / "out")

    def test_an_added_calibration_is_named(self, screened):
        out, _ = screened
        (out / "calibrations").mkdir()
        (out / "calibrations" / "other.json").write_text("{}")
        with pytest.raises(SignatureError, match=r"calibrations/other.json was added"):
            check_screen(out)

    def test_an_added_file_is_named(self, screened):
        out, _ = screened
        pq.write_table(pq.read_table(sorted((out / "kept").glob("*"))[0]), out / "kept" / "part-999999-000000.parquet")
        with pytest.raises(SignatureError, match=r"part-999999-000000.parquet was added"):
            check_screen(out)

    def test_a_stranger_and_a_missing_file(self, screened):
        out, _ = screened
        with pytest.raises(SignatureError, match="isn't trusted"):
            check_screen(out, keys={SigningKey.generate().public})
        sorted((out / "rejected").glob("*"))[0].unlink()
        with pytest.raises(SignatureError, match="can't be read"):
            check_screen(out)

    def test_a_listing_that_leads_out_of_the_folder(self, screened):
        out, _ = screened
        (out / "outputs.jsonl").write_bytes(b'{"file":"../../secret","sha256":"sha256:00"}\n')
        with pytest.raises(SignatureError, match=r"outputs.jsonl was changed"):
            check_screen(out)
