"""`tocsin replay` as a user runs it: recorded tables, the historian, labels, and the picture."""

import asyncio
import inspect
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.cli.command import started, tocsin
from tests.contract.history_stores import victoria
from tests.support.need import ROOT, need_data, need_library, need_program
from tests.support.plants import PLANTS
from tocsin_cli.replay.columns import TIME_NAMES
from tocsin_cli.replay.command import replay
from tocsin_cli.replay.page import MOST_REASONS, MOST_SERIES
from tocsin_cli.replay.picture import thinned
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_open import open_history
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD, Frame
from tocsin_core.replay.playing import REST_NS
from tocsin_core.replay.report import FLOOD

SECOND: Final = 1_000_000_000
PLANT: Final = """\
tocsin: 1
site: {id: s, name: {zh: 测试厂, en: "Test <works>"}, timezone: Asia/Shanghai}
gateways:
  - id: g
    external: true
    devices:
      - id: d
        points:
          - id: P
            name: {zh: 压力, en: pressure & more}
            kind: pressure
            alarms: {H: {setpoint: 1, off_delay_s: 0}, time-to-limit: false}
          - {id: Q, name: 流量, kind: flow, alarms: {L: {setpoint: 10, off_delay_s: 0}, time-to-limit: false}}
"""
COMPUTED: Final = """\
          - {id: P2, name: 压力二, kind: pressure, alarms: {time-to-limit: false}}
          - {id: DAM, name: 水位, kind: generic, range: [0, 10], alarms: {blue: {setpoint: 4}, yellow: {setpoint: 3}}}
computed:
  - id: VOTE
    name: 表决
    kind: pressure
    from: {rule: vote, of: [P, P2], need: 2}
    alarms: {H: {setpoint: 1.2, off_delay_s: 0}, time-to-limit: false}
"""


def rows_of(separator: str = ",") -> str:
    """A minute of P and Q at 1 Hz: P is over its limit from 20 to 29 and from 50 on; labelled is 18 to 25."""
    lines = [separator.join(("time", "P", "Q", "wrong", "note"))]
    for second in range(60):
        p = "1.5" if 20 <= second < 30 or second >= 50 else "0.5"
        label = "1" if 18 <= second <= 25 else "0"
        lines.append(separator.join((f"2026-03-02 08:00:{second:02}", p, "50", label, "x")))
    return "\n".join(lines) + "\n"


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A folder with a small plant."""
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return folder


def replayed(*arguments: str) -> dict[str, Any]:
    """The JSON object of a replay that goes well."""
    done = tocsin("replay", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def rule(made: dict[str, Any], alarm: str) -> dict[str, Any]:
    """The report of one rule."""
    found: dict[str, Any] = next(each for each in made["rules"] if each["alarm"] == alarm)
    return found


def refused(*arguments: str) -> str:
    """The one line with which a replay is refused."""
    done = tocsin("replay", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_called_like_points_are_played(plant: Path, tmp_path: Path, separator: str) -> None:
    """Whatever separates them; times without a zone are the site's; what is not used is said."""
    table = tmp_path / "r.csv"
    table.write_text(rows_of(separator), encoding="utf-8")
    made = replayed(str(plant), "--from", str(table))
    assert (made["start"], made["end"]) == ("2026-03-02T00:00:00Z", "2026-03-02T00:00:59Z")
    assert (made["readings"], made["points"], made["alarms"]) == (120, 2, 2)
    assert rule(made, "P/H")["occurrences"] == 2
    assert rule(made, "P/H")["standing_s"] == 10 + 9
    assert rule(made, "P/H")["false_alarms"] is None
    assert made["remarks"] == ["columns by name: P, Q; not used: wrong, note"]


def test_what_was_recorded_of_a_computed_point_is_computed_anew(plant: Path, tmp_path: Path) -> None:
    """Its column is left out and said; what the replay computes itself is judged and drawn, with its reason."""
    (plant / "plant.yaml").write_text(PLANT + COMPUTED, encoding="utf-8")
    lines = ["time,P,P2,DAM,VOTE"]
    for second in range(40):
        p2 = "nan" if second >= 20 else "0.5"
        lines.append(f"{1772409600 + second},{1.5 if second >= 10 else 0.5},{p2},{3.5 if second >= 30 else 5},9")
    table, html = tmp_path / "r.csv", tmp_path / "out.html"
    table.write_text("\n".join(lines), encoding="utf-8")
    made = replayed(str(plant), "--from", str(table), "--html", str(html))
    assert made["remarks"] == ["columns by name: P, P2, DAM; computed anew: VOTE"]
    assert made["readings"] == 3 * 40
    (vote,) = [each for each in made["raised"] if each["alarm"] == "VOTE/H"]
    assert (vote["at"][:19], vote["value"], vote["returned"]) == ("2026-03-02T00:00:21", 1.5, None)
    assert "1oo1" in vote["reason"]
    reasons = {each["alarm"]: each["reason"] for each in made["raised"]}
    assert reasons["P/H"] == ""
    text = html.read_text(encoding="utf-8")
    assert "<h2>VOTE 表决" in text
    assert f"({vote['reason']})" in text
    assert f"<td>{vote['reason']}</td>" in text
    # A grade of a level that is bad when low: its lines say to which side.
    assert ">blue ≤ 4</text>" in text
    assert ">yellow ≤ 3</text>" in text
    names = tmp_path / "map.yaml"
    names.write_text("columns: {VOTE: VOTE}\n", encoding="utf-8")
    assert "no column is of a measured point; computed are: VOTE" in refused(
        str(plant), "--from", str(table), "--map", str(names)
    )


def test_labels_tell_which_alarms_were_false(plant: Path, tmp_path: Path) -> None:
    """The second raising is 25 s outside of the labelled stretch."""
    table = tmp_path / "r.csv"
    table.write_text(rows_of(), encoding="utf-8")
    made = replayed(str(plant), "--from", str(table), "--label", "wrong", "--tolerance", "24")
    assert made["labels"] == {
        "stretches": 1,
        "detected": 1,
        "false_alarms": 1,
        "false_alarms_per_day": pytest.approx(86400 / 59),
        "tolerance_s": 24.0,
    }
    assert rule(made, "P/H")["false_alarms"] == 1
    made = replayed(str(plant), "--from", str(table), "--label", "wrong", "--tolerance", "25")
    assert made["labels"]["false_alarms"] == 0


def test_a_map_says_which_column_is_which_point(plant: Path, tmp_path: Path) -> None:
    """With the column of time and a factor where the table has another unit."""
    table = tmp_path / "r.csv"
    table.write_text("when;bar;flow\n1772409600;9;50\n1772409601;10;50\n1772409602000;11;50\n", encoding="utf-8")
    names = tmp_path / "map.yaml"
    names.write_text("time: when\ncolumns:\n  bar: {point: P, gain: 0.1}\n  flow: Q\n", encoding="utf-8")
    made = replayed(str(plant), "--from", str(table), "--map", str(names))
    assert (made["start"], made["end"]) == ("2026-03-02T00:00:00Z", "2026-03-02T00:00:02Z")
    assert rule(made, "P/H")["occurrences"] == 1
    assert made["remarks"] == ["columns by the map: bar → P, flow → Q"]


def test_an_empty_cell_is_no_reading_and_nan_is_a_bad_one(plant: Path, tmp_path: Path) -> None:
    """A silence is told as one, a bad reading as one; neither touches the process alarm."""
    lines = ["time,P,Q"] + [
        f"{1772409600 + s},{'' if 5 <= s < 20 else 1.5},{'nan' if s > 30 else 50}" for s in range(40)
    ]
    table = tmp_path / "r.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    made = replayed(str(plant), "--from", str(table))
    counts = {each["alarm"]: each["occurrences"] for each in made["rules"]}
    assert counts == {"P/H": 1, "P/bad": 0, "P/stale": 1, "Q/L": 0, "Q/bad": 1, "Q/stale": 0}
    assert made["readings"] == 40 - 15 + 40


def test_the_pump_loops_recordings_are_mapped_by_its_simulation() -> None:
    """Each column as the simulator plays it; the table is played as it stands."""
    table = need_data("skab") / "other" / "9.csv"
    made = replayed(str(PLANTS / "skab-pump-loop"), "--from", str(table), "--label", "anomaly")
    assert made["points"] == 8
    assert "Volume Flow RateRMS → FT-1" in made["remarks"][0]
    assert {each["alarm"] for each in made["rules"] if each["occurrences"]} == {
        "VT-1/HH",
        "VT-1/H",
        "VT-2/HH",
        "VT-2/H",
    }
    assert (made["labels"]["detected"], made["labels"]["false_alarms"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.csv: no rows"),
        ("time,P\n", "r.csv: no rows"),
        ("time,P\n2026-03-02 08:00:00,1,2\n", "r.csv:2: 3 cells under 2 columns"),
        ("time,P\n2026-03-02 08:00:00,1\nsoon,1\n", "r.csv:3: Invalid isoformat string: 'soon'"),
        (
            "time,P\n2026-03-02 08:00:00,1\n2026-03-02 08:00:01,one\n",
            "r.csv:3: could not convert string to float: 'one'",
        ),
        ("time,P\n1970-01-02 08:00:00,1\n", "r.csv:2: 1970-01-02 08:00:00 is no time"),
        ("time,P\n0026-03-02 08:00:00,1\n", "r.csv:2: 0026-03-02 08:00:00 is no time"),
        ("time,P\nnan,1\n", "r.csv:2: nan is no time"),
        ("time,P,P\n2026-03-02 08:00:00,1,1\n", "r.csv:1: two columns are called P"),
        ("time,P\n2026-03-02 08:00:00,\n", "r.csv: no cell of its points holds a number"),
        ("time,X\n2026-03-02 08:00:00,1\n", "give --map (columns: time, X; points: P, Q)"),
    ],
)
def test_a_table_that_cannot_be_played_is_refused_with_its_line(
    plant: Path, tmp_path: Path, text: str, said: str
) -> None:
    """One line on stderr, exit 2."""
    table = tmp_path / "r.csv"
    table.write_text(text, encoding="utf-8")
    assert said in refused(str(plant), "--from", str(table))


def test_wrong_arguments_are_refused(plant: Path, tmp_path: Path) -> None:
    """Each with what is missing."""
    table = tmp_path / "r.csv"
    table.write_text(rows_of(), encoding="utf-8")
    names = tmp_path / "map.yaml"
    names.write_text("columns:\n  P: Z\n", encoding="utf-8")
    span = "2026-03-02T08:00/2026-03-02T09:00"
    for words, said in (
        ([str(table), "--label", "W"], "no column W; there are: time, P, Q, wrong, note"),
        ([str(table), "--label", "note"], "r.csv:2: 'x' is no label: 0 or 1"),
        ([str(table), "--map", str(names)], "no point Z in the plant"),
        ([str(tmp_path / "none.csv")], "No such file"),
        ([str(table), "--data", str(tmp_path)], "--data belongs to a range"),
        ([span], "takes --data DIR"),
        (["2026/2027"], "2026/2027: a stretch START/END needs --data"),
        (["2026/2027"], "; and there is no file of that name"),
        (["2026/2027", "--data", str(tmp_path)], "whole dates"),
        ([span, "--data", str(tmp_path)], "history.duckdb: no historian here"),
        (["2026-03-02T09:00/2026-03-02T08:00", "--data", str(tmp_path)], "ends before it begins"),
        (["2026-03-02T29:00/2026-03-02T08:00", "--data", str(tmp_path)], "hour must be in"),
    ):
        assert said in refused(str(plant), "--from", *words)
    names.write_text("columns:\n  P: P\ncolums: {}\n", encoding="utf-8")
    assert "map.yaml:3: colums: " in refused(str(plant), "--from", str(table), "--map", str(names))


def test_a_stretch_of_the_historian_is_replayed(plant: Path, tmp_path: Path) -> None:
    """With the qualities that were stored; only the points of the plant and only the time that was asked for."""
    start = 1_772_409_600
    data = tmp_path / "data"
    data.mkdir()

    async def store() -> None:
        history = await DuckdbHistory.open(data / "history.duckdb")
        try:
            for name, value in (("P", 1.5), ("elsewhere", 9.0)):
                times = [(start + second) * SECOND for second in range(60)]
                quality = [BAD_COMM_FAILURE if second >= 40 else GOOD for second in range(60)]
                await history.commit(Frame.of([history.key(name)] * 60, times, [value] * 60, quality), {})
        finally:
            await history.close()

    asyncio.run(store())
    made = replayed(str(plant), "--from", "2026-03-02T08:00:10/2026-03-02T00:00:55Z", "--data", str(data))
    assert (made["start"], made["end"]) == ("2026-03-02T00:00:10Z", "2026-03-02T00:00:54Z")
    assert (made["readings"], made["points"]) == (45, 1)
    assert {each["alarm"]: each["occurrences"] for each in made["rules"]} == {"P/H": 1, "P/bad": 1, "P/stale": 0}
    assert made["not_judged"] == ["Q/L", "Q/bad", "Q/stale"]
    assert "no readings" in refused(str(plant), "--from", "2025-03-02/2025-03-03", "--data", str(data))


def test_a_stretch_of_a_historian_on_a_server_is_replayed(plant: Path, tmp_path: Path) -> None:
    """While the cloud side goes on with it; of a server that is away, or an address that is none, one line tells."""
    start, (now, later) = 1_772_409_600, ("2026-03-02T08:00:10/2026-03-02T08:00:55", "2025-03-02/2025-03-03")
    with victoria(tmp_path / "victoria") as server:

        async def store() -> None:
            history = await open_history(HistoryAddress.parse(server.address), tmp_path, SystemClock())
            try:
                times = [(start + second) * SECOND for second in range(60)]
                quality = [BAD_COMM_FAILURE if second >= 40 else GOOD for second in range(60)]
                await history.commit(Frame.of([history.key("P")] * 60, times, [1.5] * 60, quality), {})
                server.show()
                made = await asyncio.to_thread(replayed, str(plant), "--from", now, "--data", server.address)
                assert (made["start"], made["readings"], made["points"]) == ("2026-03-02T00:00:10Z", 45, 1)
                assert {each["alarm"] for each in made["rules"] if each["occurrences"]} == {"P/H", "P/bad"}
                assert made["remarks"] == [f"historian {server.address}: 1 of 2 points have readings"]
            finally:
                await history.close()

        asyncio.run(store())
        words = (str(plant), "--from", later, "--data", server.address)
        assert f"{server.address}: no readings of this plant's points" in refused(*words)
    away = tocsin("replay", *words)
    assert away.returncode == 2
    assert f"{server.address.partition('://')[2]}: All connection attempts failed" in away.stderr.splitlines()[-1]
    assert "is not duckdb, victoriametrics://HOST:PORT or" in refused(*words[:3], "--data", "http://127.0.0.1:8428")


def test_a_historian_in_use_is_refused(plant: Path, tmp_path: Path) -> None:
    """The cloud side holds its files while it runs; the line says what to do."""

    async def hold() -> None:
        history = await DuckdbHistory.open(tmp_path / "history.duckdb")
        try:
            words = (str(plant), "--from", "2026-03-02/2026-03-03", "--data", str(tmp_path))
            assert "while the cloud side runs, replay a copy" in await asyncio.to_thread(refused, *words)
        finally:
            await history.close()

    asyncio.run(hold())


def test_the_report_in_words(plant: Path, tmp_path: Path) -> None:
    """What was played, each rule that spoke, the worst ten minutes, and the labels."""
    table = tmp_path / "r.csv"
    table.write_text(rows_of(), encoding="utf-8")
    done = started("replay", str(plant), "--from", str(table), "--label", "wrong", "--tolerance", "5")
    flat = " ".join(done.stdout.split())
    assert "2026-03-02 08:00:00 to 2026-03-02 08:00:59 (0.02 h): 120 readings of 2 points, 2 alarms, 2 high" in flat
    assert "P/H high 2 2928.8 19 1" in flat
    assert "at most 2 alarms in 10 min, from 2026-03-02 08:00:20 on" in flat
    assert "1 of 1 labelled stretches found; 1 false alarms (outside of them by more than 5 s), 1464.4 a day" in flat


class Page(HTMLParser):
    """What a page asks for from elsewhere, and how often each element stands in it."""

    def __init__(self) -> None:
        """Nothing seen."""
        super().__init__()
        self.count: dict[str, int] = {}
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it, and keep what it would load."""
        self.count[tag] = self.count.get(tag, 0) + 1
        self.outside += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "action")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every element is closed in its turn."""
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count it; it is closed already."""
        self.handle_starttag(tag, attrs)
        self.open.pop()


def test_the_picture_is_one_file_with_a_drawing_for_each_alarmed_series(plant: Path, tmp_path: Path) -> None:
    """It needs nothing else, names are escaped, and P is drawn with its limit, its two raisings and the label."""
    table, html = tmp_path / "r.csv", tmp_path / "out.html"
    table.write_text(rows_of(), encoding="utf-8")
    replayed(str(plant), "--from", str(table), "--label", "wrong", "--tolerance", "5", "--html", str(html))
    text = html.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.outside == []
    assert "url(" not in text
    assert "<script" not in text
    assert page.open == []
    assert page.count["svg"] == 2
    assert "Test &lt;works&gt;" in text
    assert "pressure &amp; more" in text
    assert ">H 1</text>" in text
    assert len(re.findall(r"<title>P/H 高报 / high: 1.500 MPa, 2026-03-02 08:00:[25]0", text)) == 2
    # The raising outside of the label is drawn hollow.
    assert text.count('fill="#fff" stroke="#ea580c"') == 1
    assert "labelled 2026-03-02 08:00:18 – 2026-03-02 08:00:25" in text
    assert "Q 流量" not in text


def test_a_picture_without_alarms_says_so(plant: Path, tmp_path: Path) -> None:
    """Nothing is drawn for nothing."""
    table, html = tmp_path / "r.csv", tmp_path / "out.html"
    table.write_text("time,P,Q\n2026-03-02 08:00:00,0.5,50\n", encoding="utf-8")
    made = replayed(str(plant), "--from", str(table), "--html", str(html))
    assert made["alarms"] == 0
    assert "No alarm was raised" in html.read_text(encoding="utf-8")


def test_a_browser_shows_the_picture(plant: Path, tmp_path: Path) -> None:
    """Chromium parses it and keeps every drawing; the line of P spans the width of the plot."""
    table, html = tmp_path / "r.csv", tmp_path / "out.html"
    table.write_text(rows_of(), encoding="utf-8")
    replayed(str(plant), "--from", str(table), "--html", str(html))
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 -- only where a browser is

    chromium = need_program("chromium", "chromium-browser", "google-chrome")
    need_library("libatomic.so.1")
    with sync_playwright() as play, play.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(html.as_uri())
        line = tab.locator("path.line").bounding_box()
        plot = tab.locator("rect.plot").bounding_box()
        assert line is not None
        assert plot is not None
        assert abs(line["x"] - plot["x"]) < 2
        assert abs(line["width"] - plot["width"]) < 3
        assert plot["y"] <= line["y"]
        assert line["y"] + line["height"] <= plot["y"] + plot["height"]
        assert asked == [html.as_uri()]


def test_thinning_keeps_every_extreme() -> None:
    """Of many readings a bin keeps its least and its greatest, in their order; few readings are all kept."""
    time_ns = np.arange(100_000, dtype=np.int64)
    value = np.sin(time_ns / 500.0)
    value[54_321], value[54_322] = 9.0, -9.0
    kept, values = thinned(time_ns, value, 0, 99_999, 200)
    assert len(kept) <= 400
    assert (np.diff(kept) > 0).all()
    assert values[np.searchsorted(kept, 54_321)] == 9.0
    assert values[np.searchsorted(kept, 54_322)] == -9.0
    few, _ = thinned(time_ns[:300], value[:300], 0, 299, 200)
    assert len(few) == 300


def test_a_broken_plant_is_refused(tmp_path: Path) -> None:
    """As every verb refuses it: with its first problem."""
    (tmp_path / "plant.yaml").write_text("tocsin: 2\n", encoding="utf-8")
    assert "plant.yaml:1" in refused(str(tmp_path), "--from", "x.csv")


def test_the_early_warnings_lead_is_reported(tmp_path: Path) -> None:
    """A leak in the ammonia plant, by a table of its points: warned of, then raised, with the time between."""
    lines = ["time,NH3-101"] + [f"{1772409600 + s},{2 + max(0, s - 60) * 0.1:.1f}" for s in range(400)]
    table = tmp_path / "r.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    folder = PLANTS / "ammonia-refrigeration"
    made = replayed(str(folder), "--from", str(table))
    (early,) = made["early"]
    assert (early["alarm"], early["limit"]) == ("NH3-101/time-to-limit", "NH3-101/H")
    assert (early["warnings"], early["foreseen"], early["unfulfilled"]) == (1, 1, 0)
    assert 120 < early["lead_median_s"] < 260
    judged = sum(len(point.definitions) for point in load_plant(folder).points if point.id == "NH3-101")
    assert len(made["rules"]) == judged


def test_the_page_names_every_option_and_number() -> None:
    """What docs/replay.md says is what the program takes and what its constants are."""
    flat = " ".join((ROOT / "docs" / "replay.md").read_text(encoding="utf-8").split())
    options = set(re.findall(r"--[a-z]+", tocsin("replay", "--help").stdout)) - {"--help"}
    assert options == {"--from", "--data", "--map", "--label", "--tolerance", "--html", "--json"}
    assert all(option in flat for option in options)
    assert "called " + ", ".join(TIME_NAMES[:-1]) + f" or {TIME_NAMES[-1]}" in flat
    assert f"`--tolerance` seconds ({inspect.signature(replay).parameters['tolerance'].default:g})" in flat
    assert f"more than {FLOOD} are an alarm flood" in flat
    assert f"The {MOST_SERIES} gravest series" in flat
    assert f"lists the first {MOST_REASONS} reasons" in flat
    assert REST_NS == 5 * SECOND
    assert "each five seconds elsewhere" in flat
