"""Markdown tables made from records, and their place in the README."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from rali_lab.evaluate.results import Record

VERDICTS = ("reproduced", "partly", "contradicted", "not testable")
COSTS = {
    "parameters": "parameters",
    "seconds_per_image": "time per image",
    "peak_memory_bytes": "peak memory",
}
STALE = "(stale)"
"""Stands beside what other code than today's has made."""
_RULES = {"l": ":---", "r": "---:", "c": ":---:"}


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, align: str = ""
) -> str:
    """A GitHub table; ``align`` holds "l", "r" or "c" per column (default "l"), pipes in cells are
    escaped.

    >>> print(markdown_table(["method", "PLCC"], [["rali", ".90"]], align="lr"))
    | method | PLCC |
    |:---|---:|
    | rali | .90 |
    """
    cells = [
        [str(cell).replace("|", r"\|").replace("\n", " ") for cell in row]
        for row in (header, *rows)
    ]
    if any(len(row) != len(header) for row in cells):
        raise ValueError(
            f"rows have {sorted({len(row) for row in cells})} cells, expected {len(header)}"
        )
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "|" + "|".join(_RULES[a] for a in align.ljust(len(header), "l")) + "|")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[object]], *, align: str = "") -> str:
    """Rows as lines of text with their columns one below the other.

    Parameters
    ----------
    rows : sequence of sequences
        The heading is the first of them; all have the same number of cells.
    align : str
        "l" or "r" per column, by default "l".

    Examples
    --------
    >>> print(aligned([["method", "n"], ["rali", 120], ["ridge", 8]], align="lr"))
    method    n
    rali    120
    ridge     8
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    form = "  ".join(
        f"{{:{'>' if side == 'r' else '<'}{width}}}"
        for side, width in zip(align.ljust(len(widths), "l"), widths, strict=True)
    )
    return "\n".join(form.format(*row).rstrip() for row in cells)


def decimal(value: float, digits: int = 3) -> str:
    """A number as IQA tables print it, without the leading zero: ``.873``, ``-.041``, ``1.000``."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def quantity(metric: str, value: float) -> str:
    """A value in the unit of its metric (MB = 1e6 bytes).

    >>> quantity("parameters", 3_210_000), quantity("plcc", .8731)
    ('3.21 M', '.873')
    >>> quantity("seconds_per_image", .0123)
    '12.3 ms'
    """
    if metric == "parameters":
        return f"{value / 1e6:.3g} M"
    if metric == "seconds_per_image":
        return f"{1e3 * value:.3g} ms"
    if metric == "peak_memory_bytes":
        return f"{value / 1e6:.3g} MB"
    if metric in ("format_share", "naming_accuracy"):
        return _percent(value)
    return decimal(value)


def with_interval(record: Record) -> str:
    """``.873 [.851, .892]``, in the unit of the record's metric; without an interval the value
    alone.
    """
    value = quantity(record.metric, record.value)
    if record.ci_low is None or record.ci_high is None:
        return value
    return (
        f"{value} [{quantity(record.metric, record.ci_low)},"
        f" {quantity(record.metric, record.ci_high)}]"
    )


def interval(row: Mapping) -> str:
    """Value and interval of a row of the ledger; an open end is a word.

    >>> interval({"value": 0.8, "ci_low": 0.75, "ci_high": "inf"})
    '0.800 [0.750, inf]'
    """
    return f"{row['value']:.3f} [{float(row['ci_low']):.3f}, {float(row['ci_high']):.3f}]"


def seed_count(seeds: int | Sequence[int] | None) -> int:
    """How many seeds a verdict rests on, from their number or their list; 0 without a verdict."""
    return len(seeds) if isinstance(seeds, Sequence) else seeds or 0


def results_table(
    records: Iterable[Record],
    *,
    metric: str = "plcc",
    methods: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
) -> str:
    """Methods down, domains across, one metric; in the order given or as first met, "–" if not
    measured.

    Each heading gives the domain, its role and n (a range if methods scored different numbers of
    images).
    """
    found = {(r.method, r.domain): r for r in records if r.metric == metric}
    if not found:
        raise ValueError(
            f"no record has metric {metric!r}; run the evaluation notebook, or choose another"
        )
    methods = methods or list(dict.fromkeys(method for method, _ in found))
    domains = domains or list(dict.fromkeys(domain for _, domain in found))
    heads = [
        _heading(domain, [r for r in found.values() if r.domain == domain]) for domain in domains
    ]
    rows = [
        [f"`{m}`", *(with_interval(found[m, d]) if (m, d) in found else "–" for d in domains)]
        for m in methods
    ]
    name = metric.upper() if metric in ("plcc", "srcc") else metric.replace("_", " ")
    return markdown_table([name, *heads], rows, align="l" + "r" * len(domains))


def efficiency_table(records: Iterable[Record], *, reference: str = "teacher") -> str:
    """Parameters, time and memory per method, with the share of ``reference``."""
    found = {(r.method, r.metric): r.value for r in records if r.metric in COSTS}
    if missing := [metric for metric in COSTS if (reference, metric) not in found]:
        raise ValueError(
            f"{reference!r} lacks {', '.join(missing)}; measure it, or pass another reference"
        )

    def cell(method: str, metric: str) -> str:
        if (method, metric) not in found:
            return "–"
        value, whole = found[method, metric], found[reference, metric]
        return quantity(metric, value) + (
            "" if method == reference else f" ({_percent(value / whole)})"
        )

    methods = dict.fromkeys(method for method, _ in found)
    rows = [[f"`{method}`", *(cell(method, metric) for metric in COSTS)] for method in methods]
    return markdown_table(["method", *COSTS.values()], rows, align="lrrr")


def people_table(records: Iterable[Record], stale: Collection[str] = ()) -> str:
    """What methods trained on people's scores reach on held-out images of them, one line per
    method; a sentence if none was measured.

    Reads the records srcc_trained, plcc_trained and srcc_minus_ridge of role "real", and srcc and
    plcc for methods that were never trained on people's scores, which come first. Methods in
    `stale` are marked so.
    """
    found = {(r.method, r.metric): r for r in records if r.role == "real"}
    metrics = {
        "srcc_trained": "SRCC",
        "plcc_trained": "PLCC",
        "srcc_minus_ridge": "SRCC minus `ridge_visual`, paired",
    }
    methods = [m for m, metric in found if metric == "plcc_trained"]
    if not methods:
        return "Not measured in this run."

    def row(label: str, method: str, keys: Iterable[str]) -> list[str]:
        return [
            label,
            *(with_interval(found[method, k]) if (method, k) in found else "–" for k in keys),
        ]

    rows = [
        row(f"`{m}`, never trained on them", m, ("srcc", "plcc", ""))
        for m, metric in found
        if metric == "srcc"
    ]
    rows += [row(f"`{m}`" + _mark({"stale": m in stale}), m, metrics) for m in methods]
    return markdown_table(["method", *metrics.values()], rows, align="lrrr")


def claims_table(rows: Iterable[Mapping]) -> str:
    """One line per claim of the paper; what is measured for it stands in docs/CLAIMS.md.

    Parameters
    ----------
    rows
        Mappings with id, sentence, value, ci_low, ci_high, seeds (how many, or which), verdict,
        notebook. ``value`` and the interval may be None (not testable); ``notebook`` is a path, and
        is linked. Where ``stale`` is true, the verdict is followed by `STALE`.
    """
    cells = []
    for row in rows:
        if row["verdict"] not in VERDICTS:
            raise ValueError(
                f"claim {row['id']!r}: verdict {row['verdict']!r}, expected one of {VERDICTS}"
            )
        value = "–" if row["value"] is None else decimal(row["value"])
        if row["ci_low"] is not None:
            value += f" [{decimal(row['ci_low'])}, {decimal(row['ci_high'])}]"
        verdict = f"**{row['verdict']}**{_mark(row)}"
        cells.append(
            [
                f"`{row['id']}`",
                row["sentence"],
                value,
                str(seed_count(row["seeds"]) or "–"),
                verdict,
                _link(row["notebook"]),
            ]
        )
    return markdown_table(
        ["claim", "the paper says", "value [95 % interval]", "seeds", "verdict", "where"], cells
    )


def _mark(row: Mapping) -> str:
    return f" {STALE}" if row.get("stale") else ""


def notebook_table(rows: Iterable[Mapping]) -> str:
    """One line per notebook, from mappings of notebook (path), question, makes, minutes ``{profile:
    m}``.
    """
    rows = list(rows)
    profiles = list(dict.fromkeys(profile for row in rows for profile in row["minutes"]))

    def minutes(row: Mapping, profile: str) -> str:
        return f"{row['minutes'][profile]:.1f} min" if profile in row["minutes"] else "–"

    cells = [
        [
            _link(row["notebook"]) + _mark(row),
            row["question"],
            row["makes"],
            *(minutes(row, p) for p in profiles),
        ]
        for row in rows
    ]
    return markdown_table(
        ["notebook", "question", "makes", *profiles], cells, align="lll" + "r" * len(profiles)
    )


def inject(text: str, marker: str, table: str) -> str:
    """``text`` with what stands between ``<!-- begin:marker -->`` and ``<!-- end:marker -->``
    replaced.

    Raises
    ------
    ValueError
        If the pair of marks is missing, doubled or out of order.
    """
    begin, end = f"<!-- begin:{marker} -->", f"<!-- end:{marker} -->"
    if not text.count(begin) == text.count(end) == 1 or text.index(begin) > text.index(end):
        raise ValueError(
            f"found {text.count(begin)} x {begin!r} and {text.count(end)} x {end!r}, expected one"
            " pair in this order; put both lines where the table belongs"
        )
    return text[: text.index(begin) + len(begin)] + f"\n{table.strip()}\n" + text[text.index(end) :]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _heading(domain: str, records: Sequence[Record]) -> str:
    sizes = sorted({r.n for r in records if r.n is not None})
    roles = ", ".join(sorted({r.role for r in records}))
    n = f", n = {sizes[0]}" + (f"-{sizes[-1]}" if len(sizes) > 1 else "") if sizes else ""
    return f"{domain} ({roles}{n})"


def _link(path: str) -> str:
    name = path.split("#")[0].rsplit("/", 1)[-1].removesuffix(".ipynb")
    return f"[{name}]({path})" if "/" in path or path.endswith(".ipynb") else path
