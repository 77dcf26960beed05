// Command idlewild names a kind.
package main

import (
	_ "github.com/urfave/cli/v2"
	_ "idlewild/node"
)

func main() {
	println("blender")
}
