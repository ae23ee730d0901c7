# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion of vmpair(8); commands and options come from its help, pairs from the daemon.
_vmpair() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i words
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || { cmd=${COMP_WORDS[i]}; break; }
	done
	case $prev in
	-o | --output) words="text json" ;;
	-s | --socket | --file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	-t | --timeout | -n | --limit) return ;;
	*)
		if [[ -z $cmd ]]; then
			words=$(vmpair --help 2> /dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
			words+=" help --help --version"
		elif [[ $cur == -* ]]; then
			words=$(vmpair "$cmd" --help 2> /dev/null | grep -oE -- "--[a-z]+" | sort -u)
		elif [[ $cmd == key ]]; then
			case $prev in
			key) words="rotate list add use drop" ;;
			use | drop) words=$(vmpair key list 2> /dev/null | awk '{print $2}') ;;
			esac
		elif [[ $cmd == voter || $cmd == fence || $cmd == unfence ]]; then
			if [[ $prev == voter ]]; then
				words="add remove lost"
			else
				words=$(vmpair --timeout=1s status --output=json 2> /dev/null | grep -oE '"name": *"[^"]*"' | cut -d'"' -f4)
			fi
		elif [[ $prev == "$cmd" ]]; then
			case $cmd in
			status | events | why | switchover | hold | unhold | force-primary)
				words=$(vmpair --timeout=1s status 2> /dev/null | sed -n 's/^pair \([^ :]*\).*/\1/p') ;;
			help) words=$(vmpair --help 2> /dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p') ;;
			esac
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _vmpair vmpair
