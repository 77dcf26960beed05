//go:build !linux

package netlab

import (
	"errors"
	"os"
)

const tunName = "net0"

func openTUN(string, string) (*os.File, error) {
	return nil, errors.New("the network laboratory needs Linux")
}
