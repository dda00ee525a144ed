"""Generated documentation.

python -m scripts.docs stage      lays out the source of the site in build/docs, with build/mkdocs.yml
python -m scripts.docs results    rewrites docs/results and the figures of the README
"""

from __future__ import annotations

import sys

from scripts.docs import results, stage


def main(words: list[str]) -> int:
    """Exit code 2 for another word."""
    if words == ["stage"]:
        stage.stage(stage.ROOT / "build" / "docs")
        stage.configure(stage.ROOT / "build" / "docs")
        return 0
    if words == ["results"]:
        for path, text in results.pages().items():
            stage.write(stage.ROOT / "docs" / path, text)
        readme = stage.ROOT / "README.md"
        stage.write(readme, results.with_headlines(readme.read_text("utf-8")))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
