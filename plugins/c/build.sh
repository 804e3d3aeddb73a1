#!/bin/sh
# Builds every plugin here to OUT/NAME_c.wasm: `./build.sh OUT` (clang and lld's wasm-ld).
set -eu
out=$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)
cd "$(dirname "$0")"
for source in *.c; do
    ${CLANG:-clang} --target=wasm32 -std=c11 -O2 -Wall -Wextra -Wno-unused-function -nostdlib -ffreestanding \
        -mbulk-memory -mmutable-globals -Wl,--no-entry -Wl,--stack-first -Wl,--export=rowmill_row -Wl,--strip-debug \
        -o "$out/${source%.c}_c.wasm.partial" "$source"
    mv "$out/${source%.c}_c.wasm.partial" "$out/${source%.c}_c.wasm"
done
