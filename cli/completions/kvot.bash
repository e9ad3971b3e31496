# bash completion for kvot
_kvot() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options="--threads --json --quiet --help"
    case $previous in
    --codec) COMPREPLY=($(compgen -W "ott lossless" -- "$current")); return ;;
    --bits) COMPREPLY=($(compgen -W "2 3 4 8" -- "$current")); return ;;
    --group) COMPREPLY=($(compgen -W "32 64 128" -- "$current")); return ;;
    --outliers) COMPREPLY=($(compgen -W "auto 0 3" -- "$current")); return ;;
    --device) COMPREPLY=($(compgen -W "auto cpu cuda:0" -- "$current")); return ;;
    --threads | -T | --tokens | --layers | --prefill) return ;;
    esac
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "compress restore inspect verify diff bench --help --version" -- "$current"))
    elif [[ $current == -* ]]; then
        case ${COMP_WORDS[1]} in
        compress) options+=" --output --force --append --codec --bits --group --outliers --model --device" ;;
        restore) options+=" --output --force --tokens --layers --device" ;;
        verify) options+=" --against" ;;
        bench) options+=" --original --prefill --device" ;;
        inspect) options="--json --quiet --help" ;;
        esac
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}
complete -F _kvot kvot
