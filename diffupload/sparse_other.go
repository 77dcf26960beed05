//go:build !linux && !darwin && !freebsd

package diffupload

import (
	"errors"
	"io/fs"
	"os"
)

func seekHole(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }

func seekData(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }

func hasHoles(fs.FileInfo) bool { return false }
