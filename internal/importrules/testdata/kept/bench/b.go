// Command bench may import everything.
package main

import (
	"os/exec"
	"path/filepath"

	_ "github.com/ipfs/boxo/bitswap"
	_ "github.com/libp2p/go-libp2p"
	_ "idlewild/internal/farmtest"
)

func main() {
	exec.Command("taskset", "blender", filepath.Join("render", "blender"))
}
