# bash completion of cmctl; printed by `cmctl completion bash`. Works with and without the package bash-completion.

# The word as a shell would have it, into __cmctl_plain: quotes and backslashes taken off, nothing expanded. Where a quote
# is still open, what stands in front of it into __cmctl_before, and the quote into __cmctl_quote.
__cmctl_dequote() {
    local word=$1 char
    __cmctl_plain='' __cmctl_before='' __cmctl_quote=''
    while [[ -n $word ]]; do
        char=${word:0:1}
        word=${word:1}
        case $__cmctl_quote$char in
            \'\' | '""')
                __cmctl_quote=''
                ;;
            \' | '"')
                __cmctl_quote=$char
                __cmctl_before=$__cmctl_plain
                ;;
            \\)
                __cmctl_plain+=${word:0:1}
                word=${word:1}
                ;;
            \"\\)
                if [[ ${word:0:1} != [\"\\\$\`] ]]; then __cmctl_plain+=$char; fi
                __cmctl_plain+=${word:0:1}
                word=${word:1}
                ;;
            *)
                __cmctl_plain+=$char
                ;;
        esac
    done
}

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
    local __cmctl_plain __cmctl_before __cmctl_quote
    local -a plain=()
    for word in "${words[@]}"; do
        __cmctl_dequote "$word"
        plain+=("$__cmctl_plain")
    done
    # Of the last word, as it is left by the loop.
    local before=$__cmctl_before quote=$__cmctl_quote

    # The one that is typed, where it is not found by its name.
    local program=${plain[0]/#\~\//$HOME/} reply line
    if [[ $program != */* ]]; then program=cmctl; fi
    reply=$(command "$program" __complete "${plain[@]:1}" 2>/dev/null) || return 0
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
        local file typed=$current
        if [[ -n $quote ]]; then typed=${plain[${#plain[@]} - 1]}; fi
        while IFS= read -r file; do
            if [[ -n $quote && $file == *[\'\"\\\$\`!]* ]]; then continue; fi
            word=$file
            if [[ -z $quote ]]; then printf -v word '%q' "$file"; fi
            if [[ -d $file ]]; then word+=/; fi
            COMPREPLY+=("$word")
        done < <(compgen -f -- "$typed")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    # What readline replaces begins behind an open quote, or the last character at which bash split the word.
    local split=${COMP_WORDBREAKS//[!:=]/} head
    if [[ -n $quote ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    elif [[ -n $split && $current == *["$split"]* ]]; then
        head=${current%"${current##*["$split"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
}

complete -F _cmctl cmctl
