package node

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
)

// grantFarm is a store with one block for each role that a block can play.
type grantFarm struct {
	requester, worker, other         peer.ID
	requesterKey, otherKey           crypto.PrivKey
	id, another                      job.ID
	content, results, foreign, input cid.Cid
	output, othersInput, unpinned    cid.Cid
	atRequester, atWorker            *grants
	unwanted                         peer.ID // on no list of the requester's jobs
}

// lists are those of the requester's jobs.
func (f *grantFarm) lists(_ job.ID, p peer.ID) bool { return p != f.unwanted }

func newGrantFarm(t *testing.T) *grantFarm {
	t.Helper()
	f := &grantFarm{id: job.NewID(time.Now()), another: job.NewID(time.Now())}
	who := func() (crypto.PrivKey, peer.ID) {
		key, id, err := newPeer()
		if err != nil {
			t.Fatal(err)
		}
		return key, id
	}
	f.requesterKey, f.requester = who()
	_, f.worker = who()
	f.otherKey, f.other = who()
	_, f.unwanted = who()
	put := func(s *diffupload.Memory, text, owner string) cid.Cid {
		id := diffupload.ChunkID([]byte(text))
		if err := s.Put(t.Context(), id, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if owner != "" {
			if err := s.Pin(t.Context(), owner, []cid.Cid{id}); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}
	var there, here diffupload.Memory
	f.content = put(&there, "a scene", ownContent(f.id))
	f.results = put(&there, "a frame that was delivered", ownResults(f.id))
	f.foreign = put(&there, "a scene of another job", ownContent(f.another))
	f.unpinned = put(&there, "left from a job that ended", "")
	put(&here, "left from a job that ended", "")
	f.input = put(&here, "a scene", input(f.requester, f.id))
	f.output = put(&here, "a frame", output(f.requester, f.id))
	f.othersInput = put(&here, "another's scene", input(f.other, f.id))
	f.atRequester, f.atWorker = newGrants(f.requester, &there, f.lists), newGrants(f.worker, &here, f.lists)
	return f
}

func readGrant(t *testing.T, by crypto.PrivKey, reader peer.ID, id job.ID, valid time.Duration) job.Signed {
	t.Helper()
	s, err := job.Sign(by, job.ContextRead, job.ReadGrant{Version: 1, Job: id, Reader: reader.String(), Expires: time.Now().Add(valid)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContentIsReadByAValidGrantOnly(t *testing.T) {
	f := newGrantFarm(t)
	good := readGrant(t, f.requesterKey, f.worker, f.id, time.Hour)
	forged := job.Signed{Body: bytes.Replace(good.Body, []byte(f.worker.String()), []byte(f.other.String()), 1), Sig: good.Sig}
	if bytes.Equal(forged.Body, good.Body) {
		t.Fatal("nothing was forged")
	}
	nextVersion, err := job.Sign(f.requesterKey, job.ContextRead, job.ReadGrant{
		Version: 2, Job: f.id, Reader: f.worker.String(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	otherContext, err := job.Sign(f.requesterKey, job.ContextReceipt, job.ReadGrant{
		Version: 1, Job: f.id, Reader: f.worker.String(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		at     *grants
		reader peer.ID
		of     peer.ID
		id     job.ID
		grant  job.Signed
		block  cid.Cid
		want   bool
	}{
		{"the job's content", f.atRequester, f.worker, f.requester, f.id, good, f.content, true},
		{"a result that a later task needs", f.atRequester, f.worker, f.requester, f.id, good, f.results, true},
		{"the content from another worker", newGrants(f.other, f.atWorker.pins, f.lists), f.worker, f.requester, f.id, good, f.input, true},

		{"not on the job's lists, whatever was signed", f.atRequester, f.unwanted, f.requester, f.id, readGrant(t, f.requesterKey, f.unwanted, f.id, time.Hour), f.content, false},
		{"no grant", f.atRequester, f.worker, f.requester, f.id, job.Signed{}, f.content, false},
		{"nonsense", f.atRequester, f.worker, f.requester, f.id, job.Signed{Body: []byte{0xff}, Sig: good.Sig}, f.content, false},
		{"expired", f.atRequester, f.worker, f.requester, f.id, readGrant(t, f.requesterKey, f.worker, f.id, -time.Second), f.content, false},
		{"signed by a stranger", f.atRequester, f.worker, f.requester, f.id, readGrant(t, f.otherKey, f.worker, f.id, time.Hour), f.content, false},
		{"a stranger's own grant for a job of that name", f.atRequester, f.worker, f.other, f.id, readGrant(t, f.otherKey, f.worker, f.id, time.Hour), f.content, false},
		{"reader changed after signing", f.atRequester, f.other, f.requester, f.id, forged, f.content, false},
		{"another's grant", f.atRequester, f.other, f.requester, f.id, good, f.content, false},
		{"another job's grant", f.atRequester, f.worker, f.requester, f.id, readGrant(t, f.requesterKey, f.worker, f.another, time.Hour), f.content, false},
		{"the grant for another job", f.atRequester, f.worker, f.requester, f.another, good, f.foreign, false},
		{"a block of another job", f.atRequester, f.worker, f.requester, f.id, good, f.foreign, false},
		{"a block that nothing pins", f.atRequester, f.worker, f.requester, f.id, good, f.unpinned, false},
		{"a block that is not there", f.atRequester, f.worker, f.requester, f.id, good, diffupload.ChunkID([]byte("?")), false},
		{"a format that is not known", f.atRequester, f.worker, f.requester, f.id, nextVersion, f.content, false},
		{"a signature for something else", f.atRequester, f.worker, f.requester, f.id, otherContext, f.content, false},
		{"another requester's content", f.atWorker, f.other, f.requester, f.id, readGrant(t, f.requesterKey, f.other, f.id, time.Hour), f.othersInput, false},
	} {
		for range 2 { // the second time from memory
			if got := c.at.Allow(c.reader, c.of, c.id, c.grant, c.block); got != c.want {
				t.Errorf("%s: allowed is %v", c.what, got)
			}
		}
	}
}

func TestWhatWasReadIsShownByAnOldGrantThatNamesIt(t *testing.T) {
	f := newGrantFarm(t)
	grant := func(by crypto.PrivKey, reader peer.ID, root cid.Cid, valid time.Duration) job.Signed {
		t.Helper()
		s, err := job.Sign(by, job.ContextRead, job.ReadGrant{
			Version: 1, Job: f.id, Root: job.RefOf(root), Reader: reader.String(), Expires: time.Now().Add(valid),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ended := grant(f.requesterKey, f.worker, f.unpinned, -48*time.Hour)
	changed := job.Signed{Body: bytes.Replace(ended.Body, f.unpinned.Bytes(), f.foreign.Bytes(), 1), Sig: ended.Sig}
	if bytes.Equal(changed.Body, ended.Body) {
		t.Fatal("nothing was changed")
	}
	for _, c := range []struct {
		what   string
		reader peer.ID
		of     peer.ID
		past   job.Signed
		root   cid.Cid
		want   bool
	}{
		{"a job that ended", f.worker, f.requester, ended, f.unpinned, true},
		{"a job that runs", f.worker, f.requester, grant(f.requesterKey, f.worker, f.content, time.Hour), f.content, true},

		{"no grant", f.worker, f.requester, job.Signed{}, f.content, false},
		{"another root", f.worker, f.requester, ended, f.foreign, false},
		{"a root put in after signing", f.worker, f.requester, changed, f.foreign, false},
		{"another's grant", f.other, f.requester, ended, f.unpinned, false},
		{"signed by a stranger", f.worker, f.requester, grant(f.otherKey, f.worker, f.content, time.Hour), f.content, false},
		{"a stranger's own, as if he were the requester", f.worker, f.other, ended, f.unpinned, false},
		{"a grant that names no root", f.worker, f.requester, readGrant(t, f.requesterKey, f.worker, f.id, time.Hour), cid.Undef, false},
		{"the same, for content", f.worker, f.requester, readGrant(t, f.requesterKey, f.worker, f.id, time.Hour), f.content, false},
	} {
		for where, g := range map[string]*grants{"requester": f.atRequester, "worker": f.atWorker} {
			if got := g.Had(c.reader, c.of, c.past, c.root); got != c.want {
				t.Errorf("at the %s, %s: %v", where, c.what, got)
			}
		}
	}
}

func TestResultsAreReadByTheRequesterOnly(t *testing.T) {
	f := newGrantFarm(t)
	if !f.atWorker.Allow(f.requester, f.requester, f.id, job.Signed{}, f.output) {
		t.Error("the requester may not read what was made for it")
	}
	toOther := readGrant(t, f.requesterKey, f.other, f.id, time.Hour)
	own := readGrant(t, f.otherKey, f.other, f.id, time.Hour)
	for what, got := range map[string]bool{
		"another, without a grant":             f.atWorker.Allow(f.other, f.requester, f.id, job.Signed{}, f.output),
		"another, by the requester's grant":    f.atWorker.Allow(f.other, f.requester, f.id, toOther, f.output),
		"another, as if it were the requester": f.atWorker.Allow(f.other, f.other, f.id, own, f.output),
		"the requester, of another job":        f.atWorker.Allow(f.requester, f.requester, f.another, job.Signed{}, f.output),
		"the requester, of another's content":  f.atWorker.Allow(f.requester, f.requester, f.id, job.Signed{}, f.othersInput),
		"the requester, what nothing pins":     f.atWorker.Allow(f.requester, f.requester, f.id, job.Signed{}, f.unpinned),
		"at the requester, who says it is him": f.atRequester.Allow(f.requester, f.requester, f.id, job.Signed{}, f.results),
	} {
		if got {
			t.Errorf("%s: allowed", what)
		}
	}
}

func TestGrantExpiresThoughItIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newGrantFarm(t)
		g := readGrant(t, f.requesterKey, f.worker, f.id, time.Minute)
		allowed := func() bool { return f.atRequester.Allow(f.worker, f.requester, f.id, g, f.content) }
		if !allowed() {
			t.Fatal("refused while it is valid")
		}
		time.Sleep(59 * time.Second)
		if !allowed() {
			t.Error("refused a second before its end")
		}
		time.Sleep(2 * time.Second)
		if allowed() {
			t.Error("allowed a second after its end")
		}
	})
}

func TestRememberedGrantsAreBounded(t *testing.T) {
	f := newGrantFarm(t)
	g := f.atRequester
	for i := range maxOpenedGrants + 10 {
		s := readGrant(t, f.requesterKey, f.worker, f.id, time.Hour+time.Duration(i)*time.Second)
		if !g.Allow(f.worker, f.requester, f.id, s, f.content) {
			t.Fatal("refused")
		}
		if len(g.opened) > maxOpenedGrants {
			t.Fatalf("%d grants are remembered, at most %d should be", len(g.opened), maxOpenedGrants)
		}
	}
	if len(g.opened) != 10 {
		t.Errorf("%d grants are remembered, want those since it was emptied", len(g.opened))
	}
	// What is refused is not remembered: it costs the asker, not us.
	before := len(g.opened)
	for range 10 {
		g.Allow(f.worker, f.requester, f.id, readGrant(t, f.otherKey, f.worker, f.id, time.Hour), f.content)
	}
	if len(g.opened) != before {
		t.Errorf("%d refused grants are remembered", len(g.opened)-before)
	}
}
