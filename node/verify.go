package node

import (
	"path/filepath"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// VerifyJournal reads a job's journal in the data folder and changes nothing; a
// daemon may be running.
func VerifyJournal(c Config, id job.ID) (dispatch.Verified, error) {
	return dispatch.VerifyJournal(filepath.Join(c.DataDir, "dispatch"), id)
}
