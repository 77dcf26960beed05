package dispatch

import (
	"errors"
	"os"
	"strings"
	"testing"

	"idlewild/job"
)

func TestAJournalIsVerifiedAndLeftAsItIs(t *testing.T) {
	x, id := recorded(t)
	dir := t.TempDir()
	file := writeJournal(t, dir, id, x.records[id])
	v, err := VerifyJournal(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	// The transcript's workers sign nothing.
	if v.State != job.StateFinished || v.Records != len(x.records[id]) || v.Tasks != 6 || v.Accepted != 6 || v.Delivered != 3 || v.Bad != "" || v.Receipts == 0 || v.Forged != v.Receipts {
		t.Errorf("%+v", v)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	torn := b[:len(b)-3]
	if err := os.WriteFile(file, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err = VerifyJournal(dir, id)
	if err != nil || v.Records != len(x.records[id])-1 || !strings.Contains(v.Bad, "torn frame at byte") {
		t.Errorf("%+v, %v", v, err)
	}
	if after, _ := os.ReadFile(file); len(after) != len(torn) {
		t.Error("verifying changed the journal")
	}
	if _, err := VerifyJournal(dir, job.NewID(x.now)); !errors.Is(err, job.ErrUnknownJob) {
		t.Errorf("no journal: %v", err)
	}
}
