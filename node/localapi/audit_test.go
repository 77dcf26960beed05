package localapi

import (
	"testing"
	"time"

	"idlewild/job"
)

// fakeAudit answers with what it was asked.
type fakeAudit struct{}

func (fakeAudit) Audit(q AuditQuery) (AuditView, error) {
	return AuditView{Found: 5, Entries: []AuditEntry{{At: q.Since, Job: q.Job, Peer: q.Peer, Roots: []string{}}}, Damaged: q.Limit}, nil
}

func TestAuditIsAskedFor(t *testing.T) {
	dir, _, _ := door(t, newFake())
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := AuditQuery{Job: job.NewID(time.Now()), Peer: "a b&c", Since: time.Now().UTC(), Limit: 7}
	v, err := c.Audit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if e := v.Entries[0]; e.Job != q.Job || e.Peer != q.Peer || !e.At.Equal(q.Since) || v.Damaged != 7 || v.Found != 5 {
		t.Errorf("%+v", v)
	}
	if v, err := c.Audit(t.Context(), AuditQuery{}); err != nil || !v.Entries[0].At.IsZero() {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := c.Audit(t.Context(), AuditQuery{Job: "x"}); err == nil {
		t.Error("a job that is none")
	}
	if _, err := c.Audit(t.Context(), AuditQuery{Limit: -1}); err == nil {
		t.Error("fewer than none")
	}
}
