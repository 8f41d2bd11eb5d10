"""Figures as text for Prometheus (exposition format 0.0.4)."""

from collections.abc import Iterable, Sequence

Sample = tuple[dict[str, str], float]
# Name, type, help, and the samples: labels and value.
Family = tuple[str, str, str, Sequence[Sample]]


def exposed(families: Iterable[Family]) -> str:
    """Write each family with its help and type, one sample a line."""
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "".join(_line(name, *sample) for sample in samples)
        for name, kind, text, samples in families
    )


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value:.15g}\n" if inner else f"{name} {value:.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
