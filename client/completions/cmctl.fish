# fish completion of cmctl; printed by `cmctl completion fish`.

function __cmctl_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    # Quotes are taken off, one that is still open too, and nothing in them is expanded.
    set -l current (string unescape -- "$typed"); or set current $typed
    # The one that is typed, where it is not found by its name.
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    string match -q '*/*' -- $program; or set program cmctl
    type -q $program; or return
    set -e words[1]
    set -l lines (command $program __complete $words "$current" 2>/dev/null)
    if set -l at (string match -r -g '^:command (\d+)$' -- $lines[1])
        set -l command $words[(math $at + 1)..-1]
        test (count $words) -gt $at; or set command
        complete -C (string join -- ' ' (string escape -- $command) "$typed")
        return
    end
    set -l kind $lines[1]
    set -e lines[1]
    string join -- \n $lines
    if test "$kind" = :files
        __fish_complete_path "$current"
    end
end

complete -c cmctl -f -a '(__cmctl_complete)'
