#!/usr/bin/env bash
# bad_input.sh LOG [TABLE]: every row of BAD_INPUT.md must name tests, and LOG, the output of `cargo test`, must show that each of
# them ran and passed. A test that was commented out, ignored or renamed is therefore found.
set -euo pipefail

log=$1 table=${2:-$(dirname "$0")/BAD_INPUT.md}

awk -F'|' '
    FNR == NR { if ($0 ~ /^test [^ ]+ \.\.\. ok$/) { split($0, word, " "); passed[word[2]] = 1 }; next }
    # | bad input | where | what it gets | `test` `test` |
    !/^\|/ || /^\|-/ || $2 ~ /^ bad input / { next }
    {
        rows++
        named = split($(NF - 1), part, "`")
        if (NF != 6 || named < 3) { print FILENAME ":" FNR ": a row of four columns that names no test"; bad = 1; next }
        for (n = 2; n <= named; n += 2)
            if (!(part[n] in passed)) { print FILENAME ":" FNR ": no test " part[n] " ran and passed"; bad = 1 }
    }
    END {
        if (rows < 10) { print "no table of bad input"; bad = 1 }
        exit bad
    }
' "$log" "$table"
