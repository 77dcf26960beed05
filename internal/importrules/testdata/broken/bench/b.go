// Command bench names a kind where it should name a program only.
package main

import "os/exec"

func main() {
	_ = exec.Command("blender")
	println("blender")
}
