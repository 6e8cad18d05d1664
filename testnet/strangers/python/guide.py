"""Runs a guide as it stands: its commands and Python, in order, in an empty folder; and compares what they print.

A ```console block holds commands behind "$ " and lines that each prints among others; a ```python block runs in this process, and
the ```text block behind it is all that it prints. Heights, times and tokens may differ. A reason in the guide's tables must be one
that the node has, and a linked file must be there. guide.py FILE; the network's folder is in STRANGERS, `assent` on the path.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
VARYING = [
    (r"\b(height|block) \d+", r"\1 N"),
    (r"'height': '\d+'", "'height': 'N'"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
    (r"[a-z0-9-]+:\d+:[0-9a-f]{16}", "TOKEN"),
]


def plain(text):
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.strip()


def blocks(guide):
    """Kind, text and number of the first line of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        yield found[1], found[2], guide.count("\n", 0, found.start(2)) + 1


def console(text, where):
    command, expected = None, []
    for line in [*text.splitlines(), "$ "]:
        if not line.startswith("$ "):
            expected.append(line)
            continue
        if command:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
            said = plain(done.stdout).splitlines()
            missing = [wanted for wanted in expected if plain(wanted) not in said]
            if done.returncode or missing:
                sys.exit(f"{where}: {command}\nexit {done.returncode}, without {missing}:\n{done.stdout}{done.stderr}")
        command, expected = line[2:], []


def run(file):
    guide = file.read_text()
    shared, printed, ran = {}, "", 0
    for kind, text, line in blocks(guide):
        where = f"{file}, line {line}"
        if kind == "console":
            console(text, where)
        elif kind == "python":
            out = io.StringIO()
            code = compile("\n" * (line - 1) + text, file, "exec")
            with contextlib.redirect_stdout(out):
                exec(code, shared)
            printed, ran = out.getvalue(), ran + 1
        elif kind == "text" and plain(printed) != plain(text):
            sys.exit(f"{where}: printed\n{printed}instead of\n{text}")
    return ran


def unknown_reasons(file):
    """Reasons in the second column of tables that no source of the node has."""
    source = "".join(path.read_text() for path in (ROOT / "node/src").rglob("*.rs"))
    cells = re.findall(r"^\| [A-Z_]+ \| ([A-Z_, ]+) \|", file.read_text(), re.MULTILINE)
    return [reason for cell in cells for reason in cell.split(", ") if f'"{reason}"' not in source]


def broken_links(file):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text())
    return [link for link in links if not (file.parent / link).exists()]


def main():
    file = pathlib.Path(sys.argv[1]).resolve()
    network = pathlib.Path(os.environ["STRANGERS"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        places = {"cli": ROOT / "cli", "proto": ROOT / "proto", "dev": network / "cedar", "venv": sys.prefix}
        for name, place in places.items():
            os.symlink(place, name)
        sys.path.insert(0, "stubs")
        ran = run(file)
    wrong = unknown_reasons(file) + broken_links(file)
    if ran < 5 or wrong:
        sys.exit(f"{file}: {ran} Python blocks ran; reasons that the node does not have, and broken links: {wrong}")


if __name__ == "__main__":
    main()
