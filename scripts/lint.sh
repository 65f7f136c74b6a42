#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Checks what compilers do not: shell scripts with shellcheck, and the rules of scripts/lint_rules.py
# (licences, include direction, white space, Python syntax, the names in the model), and whether the model's
# deliberate mistakes still fit the rules. Prints "file:line: message" for each
# finding and exits 1 when there is any; otherwise its last line is "lint: clean".
set -eu
cd "$(dirname "$0")/.."

# The tracked files and those about to be; in an unpacked release, all but what was built.
list_files() {
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git ls-files --cached --others --exclude-standard
	else
		find . '(' -path ./.git -o -path ./build -o -name __pycache__ ')' -prune -o -type f -print |
			sed 's|^\./||'
	fi | sort -u | while IFS= read -r file; do
		[ ! -f "$file" ] || printf '%s\n' "$file"
	done
}

for tool in shellcheck python3; do
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "lint: $tool is missing; to install it: sudo scripts/bootstrap.sh lint" >&2
		exit 1
	fi
done

mapfile -t files < <(list_files)
scripts=()
for file in "${files[@]}"; do
	case ${file##*/} in
	*.sh | *.bash) scripts+=("$file") ;;
	*.*) ;;
	*) if head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh\b'; then scripts+=("$file"); fi ;;
	esac
done

status=0
if [ ${#scripts[@]} -gt 0 ]; then
	# 2317 and its successor 2329 take functions called by a trap or by a computed name for dead.
	shellcheck --external-sources --exclude=SC2317,SC2329 --format=gcc "${scripts[@]}" || status=1
fi
printf '%s\n' "${files[@]}" | python3 scripts/lint_rules.py || status=1
python3 tests/model/run.py --check || status=1

[ $status -ne 0 ] || echo 'lint: clean'
exit $status
