# bash completion of cmctl; printed by `cmctl completion bash`. Works with and without the package bash-completion.

_cmctl() {
    COMPREPLY=()
    # The words up to the cursor, put together again where bash splits them: at : and =.
    local rest=${COMP_LINE:0:COMP_POINT} blank word i
    local -a words=() first=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${rest%%[![:space:]]*}
        rest=${rest#"$blank"}
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then word=$rest; fi
        if [[ $i != 0 && -z $blank ]]; then
            words[${#words[@]} - 1]+=$word
        else
            first+=("$i")
            words+=("$word")
        fi
        rest=${rest#"$word"}
    done
    local current=${words[${#words[@]} - 1]}

    # The one that is typed, where it is not found by its name.
    local program=${words[0]/#\~\//$HOME/} reply line
    if [[ $program != */* ]]; then program=cmctl; fi
    reply=$(command "$program" __complete "${words[@]:1}" 2>/dev/null) || return 0
    local -a lines=()
    mapfile -t lines <<<"$reply"

    if [[ ${lines[0]} == ":command "* ]]; then
        local at=$((${lines[0]#:command } + 1))
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset "${first[at]}"
        elif declare -F _command_offset >/dev/null; then
            _command_offset "${first[at]}"
        else
            if ((at == ${#words[@]} - 1)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$current" | sort -u)
            fi
            if ((${#COMPREPLY[@]} == 0)); then compopt -o default 2>/dev/null; fi
        fi
        return 0
    fi

    for line in "${lines[@]:1}"; do
        COMPREPLY+=("${line%%$'\t'*}")
    done
    if [[ ${lines[0]} == ":files" ]]; then
        if ((${#COMPREPLY[@]} == 0)); then
            compopt -o default 2>/dev/null
            return 0
        fi
        local file
        while IFS= read -r file; do
            if [[ -d $file ]]; then
                printf -v file '%q/' "$file"
            else
                printf -v file '%q' "$file"
            fi
            COMPREPLY+=("$file")
        done < <(compgen -f -- "$current")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    # What readline replaces begins behind the last character at which bash split the word.
    local split=${COMP_WORDBREAKS//[!:=]/} head
    if [[ -n $split && $current == *["$split"]* ]]; then
        head=${current%"${current##*["$split"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
}

complete -F _cmctl cmctl
