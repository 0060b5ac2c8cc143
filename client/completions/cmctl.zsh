#compdef cmctl
# zsh completion of cmctl; printed by `cmctl completion zsh`.

_cmctl() {
    local -a lines open open_shown full full_shown
    local line word shown
    # The one that is typed, where it is not found by its name.
    local program="${(Q)words[1]/#\~\//$HOME/}"
    if [[ $program != */* ]]; then program=cmctl; fi
    # Quotes are taken off the words, and nothing in them is expanded.
    lines=("${(@f)$(command "$program" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")

    if [[ $lines[1] == ":command "* ]]; then
        local -i at=$(( ${lines[1]#:command } + 1 ))
        shift $at words
        (( CURRENT -= at ))
        _normal
        return
    fi

    for line in "${(@)lines[2,-1]}"; do
        word=${line%%$'\t'*}
        shown=$word
        if [[ $line == *$'\t'* ]]; then
            shown="${(r:20:)word}  ${line#*$'\t'}"
            if (( $#word > 20 )); then shown="$word  ${line#*$'\t'}"; fi
        fi
        if [[ $word == *[:=/] ]]; then
            open+=("$word")
            open_shown+=("$shown")
        elif [[ -n $word ]]; then
            full+=("$word")
            full_shown+=("$shown")
        fi
    done
    local -i found=1
    if (( $#full )); then compadd -l -d full_shown -a full && found=0; fi
    if (( $#open )); then compadd -S '' -l -d open_shown -a open && found=0; fi
    if [[ $lines[1] == ":files" ]]; then _files && found=0; fi
    return found
}

# Loaded by the completion system, this file is the body of the function; read with `source`, it defines it.
if [[ $funcstack[1] == _cmctl ]]; then
    _cmctl "$@"
elif (( $+functions[compdef] )); then
    compdef _cmctl cmctl
fi
