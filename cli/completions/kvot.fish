# fish completion for kvot
set -l commands compress restore inspect verify diff bench
complete -c kvot -n "not __fish_seen_subcommand_from $commands" -f -a "$commands"
complete -c kvot -n "__fish_seen_subcommand_from compress restore" -s o -l output -r -d "where to write"
complete -c kvot -n "__fish_seen_subcommand_from compress restore" -s f -l force -d "replace a file that exists"
complete -c kvot -n "__fish_seen_subcommand_from compress" -l append -r -d ".kvot file of an earlier state"
complete -c kvot -n "__fish_seen_subcommand_from compress" -l codec -x -a "ott lossless" -d codec
complete -c kvot -n "__fish_seen_subcommand_from compress" -l bits -x -a "2 3 4 8" -d "bits of a code"
complete -c kvot -n "__fish_seen_subcommand_from compress" -l group -x -a "32 64 128" -d "group length"
complete -c kvot -n "__fish_seen_subcommand_from compress" -l outliers -x -a "auto 0 3" -d "exact rows"
complete -c kvot -n "__fish_seen_subcommand_from compress" -l model -r -d "model that made the cache"
complete -c kvot -n "__fish_seen_subcommand_from restore" -l tokens -x -d "the first N tokens only"
complete -c kvot -n "__fish_seen_subcommand_from restore" -l layers -x -d "layers A:B only"
complete -c kvot -n "__fish_seen_subcommand_from compress restore bench" -l device -x -a "auto cpu cuda:0" -d "what quantizes and decodes"
complete -c kvot -n "__fish_seen_subcommand_from bench" -l original -r -d "the engine's file"
complete -c kvot -n "__fish_seen_subcommand_from bench" -l prefill -x -d "tokens a second"
complete -c kvot -n "__fish_seen_subcommand_from verify" -l against -r -d original
complete -c kvot -n "__fish_seen_subcommand_from compress restore verify diff bench" -s T -l threads -x -d threads
complete -c kvot -n "__fish_seen_subcommand_from $commands" -l json -d "print the result as JSON"
complete -c kvot -n "__fish_seen_subcommand_from $commands" -s q -l quiet -d "print errors only"
complete -c kvot -s h -l help -d "print help"
