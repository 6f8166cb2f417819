"""Find the strengths of the five levels of every distortion: `python -m
scripts.calibrate_distortions`.

For each type the strength is searched by bisection so that the mean full-reference quality over a
set of pristine crops meets the target of the level. A type that cannot get that bad (a colour cast
costs little structure) is spread evenly over what it can reach. The result is printed as the source
of `STRENGTHS` in `rali_lab.data.distortions`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TARGETS = (4.3, 3.65, 3.0, 2.4, 1.8)
"""Mean quality (1..5) that levels 1 to 5 aim at."""


def solve(
    quality: Callable[[float], float], span: tuple[float, float], targets: tuple[float, ...]
) -> list[float]:
    """Strengths in `span` whose quality meets `targets` (falling), or evenly spread if the last is
    out of reach.
    """
    floor = quality(span[1])
    if floor > targets[-1]:
        top = max(targets[0], floor + 0.1)
        targets = tuple(np.linspace(top, floor + 0.02, len(targets)))
    found, low = [], span[0]
    for target in targets:
        a, b = low, span[1]
        for _ in range(9):
            middle = np.sqrt(a * b)
            a, b = (middle, b) if quality(middle) > target else (a, middle)
        found.append(float(np.sqrt(a * b)))
        low = found[-1]
    return found


def main() -> None:
    from rali_lab.data.content import photographs, sources
    from rali_lab.data.distortions import TYPES, to_image
    from rali_lab.data.labels import full_reference_quality

    crops = np.stack([c for s in sources() for c in photographs(s, count=2, size=128, seed=1)])
    print("STRENGTHS: dict[str, tuple[float, ...]] = {")
    for name, kind in TYPES.items():

        def quality(strength: float, kind=kind) -> float:
            rng = np.random.default_rng(0)
            made = np.stack(
                [
                    np.asarray(to_image(kind.apply(c.astype(np.float32) / 255, strength, rng)))
                    for c in crops
                ]
            )
            return float(full_reference_quality(crops, made).mean())

        values = ", ".join(f"{v:.4g}" for v in solve(quality, kind.span, TARGETS))
        print(f'    "{name}": ({values}),', flush=True)
    print("}")


if __name__ == "__main__":
    main()
