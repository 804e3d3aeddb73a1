#!/bin/sh
# Builds every plugin here to OUT/NAME_go.wasm: `./build.sh OUT` (Go 1.24 or later; GO names another one).
set -eu
go=${GO:-go}
out=$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)
cd "$(dirname "$0")"
for description in */plugin.json; do
    name=$(dirname "$description")
    GOOS=wasip1 GOARCH=wasm "$go" build -buildmode=c-shared -buildvcs=false -trimpath -ldflags=-s -o "$out/${name}_go.wasm.partial" "./$name"
    "$go" run ./manifest "$out/${name}_go.wasm.partial" "$description"
    mv "$out/${name}_go.wasm.partial" "$out/${name}_go.wasm"
done
