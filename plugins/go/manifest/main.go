// Appends the section rowmill.plugin to a module: go run ./manifest MODULE.wasm plugin.json
package main

import (
	"encoding/binary"
	"encoding/json"
	"log"
	"os"
)

const abiVersion = 1<<16 | 0

type manifest struct {
	Kind         string          `json:"kind"`
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	ConfigSchema json.RawMessage `json:"config_schema"`
}

func text(out []byte, text string) []byte {
	out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(len(text)))
	return append(out, text...)
}

// The section: id 0, its length, its name with a length, a MessagePack map.
func section(of manifest) []byte {
	content := append([]byte{byte(len("rowmill.plugin"))}, "rowmill.plugin"...)
	content = append(content, 0x85)
	content = binary.BigEndian.AppendUint32(append(text(content, "abi"), 0xce), abiVersion)
	for _, entry := range [][2]string{
		{"kind", of.Kind}, {"name", of.Name}, {"version", of.Version}, {"config_schema", string(of.ConfigSchema)},
	} {
		content = text(text(content, entry[0]), entry[1])
	}
	return append(binary.AppendUvarint([]byte{0}, uint64(len(content))), content...)
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: manifest MODULE.wasm plugin.json")
	}
	description, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	of := manifest{ConfigSchema: json.RawMessage("true")}
	if err := json.Unmarshal(description, &of); err != nil {
		log.Fatal(os.Args[2], ": ", err)
	}
	module, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := module.Write(section(of)); err != nil {
		log.Fatal(err)
	}
	if err := module.Close(); err != nil {
		log.Fatal(err)
	}
}
