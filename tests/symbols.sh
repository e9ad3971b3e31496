#!/bin/sh
# symbols.sh HEADER LIBRARY.so LIBRARY.a: both libraries export exactly the functions that the header declares.
set -eu
declared=$(sed -n 's/^KVOT_API .*[ *]\(kvot_[a-z_]*\)(.*/\1/p' "$1" | sort)
[ -n "$declared" ]
for names in "$(nm -D --defined-only "$2" | awk '{ print $3 }' | sort)" \
    "$(nm -g --defined-only "$3" | awk 'NF == 3 { print $3 }' | sort)"; do
    if [ "$names" != "$declared" ]; then
        echo "exported, but not declared in $1, or the other way round:"
        printf '%s\n%s\n' "$declared" "$names" | sort | uniq -u
        exit 1
    fi
done
echo "$(echo "$declared" | wc -l) symbols"
