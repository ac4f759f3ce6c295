#!/usr/bin/env bash
# Test connection.py with the lowest and the newest psycopg that pyproject.toml allows, as
# binary and as pure python, each in a throw-away environment. Takes about a minute.
#
# Pure python needs the libpq of the system; without one it is skipped, or, if
# PGFLOW_TEST_REQUIRE is set, a failure. PYTHON names the interpreter, else python3.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

tests=(tests/unit/postgres/test_psycopg_contract.py)
tests+=(tests/integration/postgres/test_{connection,pipelines,prepared}.py)
tools=(hypothesis pytest pytest-trio pytest-timeout)
lowest=$(sed -n 's/^ *"psycopg>=\([0-9.]*\),<.*/\1/p' "$root/pyproject.toml" | head -n 1)

make_environment() { # folder requirement...
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$python" "$1"
        uv pip install --quiet --python "$1/bin/python" "${@:2}"
    else
        "$python" -m venv "$1"
        "$1/bin/python" -m pip install -qq --disable-pip-version-check "${@:2}"
    fi
}

run_leg() { # implementation version-specifier
    local env="$folder/$1$2" psycopg="psycopg$2"
    if [ "$1" = binary ]; then psycopg="psycopg[binary]$2"; fi
    make_environment "$env" "$psycopg" "$root[embedded]" "${tools[@]}"
    # The sources, not the copy just installed.
    (cd "$root" && PYTHONPATH=$root PSYCOPG_IMPL=$1 "$env/bin/python" -m pytest \
        -q -p no:cacheprovider -o addopts=--import-mode=importlib "${tests[@]}")
}

has_libpq() {
    "$python" -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("pq"))'
}

failed=0
for version in "==$lowest" "<3.4"; do
    for implementation in binary python; do
        echo "--- psycopg$version, $implementation"
        if [ "$implementation" = python ] && ! has_libpq; then
            echo "there is no libpq on this system"
            [ -z "${PGFLOW_TEST_REQUIRE:-}" ] || failed=1
        elif ! run_leg "$implementation" "$version"; then
            failed=1
        fi
    done
done
exit "$failed"
