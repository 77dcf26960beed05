package job

import (
	"context"
	"encoding/json"
)

// Versions are what an earlier job read, and what a later one does that is asked
// for the same.
type Versions struct {
	Spec     Spec // of the later job
	Was, Now json.RawMessage
	// Changed are the files of either content that the other has not, or not so.
	Changed []ChangedFile
	// Fetch writes a file of the earlier content, or of the later one, to path.
	Fetch func(ctx context.Context, earlier bool, name, path string) error
}

// ChangedFile is a name in an input tree.
type ChangedFile struct {
	Name     string
	Was, Now bool // it is in the earlier content, in the later one
}
