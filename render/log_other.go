//go:build !unix

package render

import (
	"io"
	"os"
)

// drain does nothing where pipes cannot be read without waiting.
func drain(*os.File, []byte, io.Writer) {}
