# bash completion for kvot
_kvot() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options="--threads --json --quiet --help"
    local command=${COMP_WORDS[1]} first=1
    local batch="--list --null --follow-links --shard --journal --memory --force" convert="--output --in-place --device"
    if [[ $command == batch ]]; then
        command+=" ${COMP_WORDS[2]}" first=2
    fi
    case $previous in
    --codec) COMPREPLY=($(compgen -W "ott lossless" -- "$current")); return ;;
    --bits) COMPREPLY=($(compgen -W "2 3 4 8" -- "$current")); return ;;
    --group) COMPREPLY=($(compgen -W "32 64 128" -- "$current")); return ;;
    --outliers) COMPREPLY=($(compgen -W "auto 0 3" -- "$current")); return ;;
    --device) COMPREPLY=($(compgen -W "auto cpu cuda:0" -- "$current")); return ;;
    --threads | -T | --tokens | --layers | --prefill | --shard | --memory) return ;;
    esac
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "compress restore inspect verify diff bench batch --help --version" -- "$current"))
    elif ((COMP_CWORD == first)); then
        COMPREPLY=($(compgen -W "compress restore verify recompress status" -- "$current"))
    elif [[ $current == -* ]]; then
        case $command in
        compress) options+=" --output --force --append --codec --bits --group --outliers --model --device" ;;
        restore) options+=" --output --force --tokens --layers --device" ;;
        verify) options+=" --against" ;;
        bench) options+=" --original --prefill --device" ;;
        inspect) options="--json --quiet --help" ;;
        "batch compress" | "batch recompress") options+=" $batch $convert --codec --bits --group --outliers --model" ;;
        "batch restore") options+=" $batch $convert" ;;
        "batch verify") options+=" $batch --against" ;;
        "batch status") options="--json --help" ;;
        esac
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}
complete -F _kvot kvot
