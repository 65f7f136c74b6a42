# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Completion of connguard(8) for bash: commands, options, guards by name, and the peers of the guard
# where an address is expected. Install as /usr/share/bash-completion/completions/connguard.

# Offer those words that begin with the last one on the line, which `word` of the caller is. Not compgen -W: that
# evaluates what it is given, and a name of a file may be anything.
_connguard_offer() {
	local offered
	COMPREPLY=()
	for offered in "$@"; do
		[[ $offered != "$word"* ]] || COMPREPLY+=("$offered")
	done
}

_connguard() {
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local commands=(status peers explain events due kick forget cut limit allow panic resume reload load
		unload help version)
	local command='' name=() i names=()

	case $previous in
	-n | --name)
		for i in /sys/fs/bpf/connguard/* /run/connguard/*.sock; do
			i=${i##*/}
			i=${i%.sock}
			[[ ! $i =~ ^[A-Za-z0-9_-]{1,32}$ ]] || names+=("$i")
		done
		_connguard_offer "${names[@]}"
		return
		;;
	-c | --config | --netns)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-n | --name)
			name=(--name "${COMP_WORDS[++i]}")
			;;
		-*) ;;
		*)
			[[ -n $command ]] || command=${COMP_WORDS[i]}
			;;
		esac
	done

	local words=(--name --json) port address
	case $command in
	'') words=("${commands[@]}" --name --json) ;;
	events | due) words+=(--follow) ;;
	resume) words=(--name --observe) ;;
	load) words=(--name --config --port --cgroup --netns) ;;
	unload) words=(--name --force) ;;
	explain | cut | limit | kick | forget | allow)
		[[ $command != kick ]] || words+=(--all)
		[[ $command != forget ]] || words+=(--idle)
		[[ $command != allow ]] || words+=(--for --for-good --end)
		if [[ $word != -* ]]; then
			while read -r port address _; do
				# With one port there is no column for it.
				[[ $port != *[.:]* ]] || address=$port
				[[ ! $address =~ ^[0-9a-f.:]*[.:][0-9a-f.:]*$ ]] || words+=("$address")
			done < <(connguard "${name[@]}" peers 2>/dev/null)
		fi
		;;
	esac
	_connguard_offer "${words[@]}"
}
complete -F _connguard connguard
