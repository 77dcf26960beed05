package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// ErrNoEdits is matched where a peer has no document of edits to give: it does
// not know them, lacks one of the manifests, or the document would be too
// large. The blocks are to be had as ever.
var ErrNoEdits = errors.New("the peer has no edits of these roots")

// editsWait is how long an asker waits for a document. It is shorter than
// idleFetch, after which the other side gives up a stream without a want.
const editsWait = 30 * time.Second

var errEditsLate = fmt.Errorf("no edits within %v: %w", editsWait, ErrNoEdits)

// EditsFrom asks one member for the document that makes the manifest at r.Want
// out of the one at r.Have: at most wire.MaxEdits bytes, which nothing was
// checked of. moved is what crossed the network, also where an error came back:
// one that matches ErrNoEdits or ErrBlockRefused, or the stream's.
func (h *Host) EditsFrom(ctx context.Context, from peer.ID, r EditsRequest) (doc []byte, moved int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, editsWait, errEditsLate)
	defer cancel()
	stopHost := context.AfterFunc(h.ctx, cancel)
	defer stopHost()
	doc, moved, err = h.editsFrom(ctx, from, r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, moved, fmt.Errorf("edits from %s: %w", from, err)
	}
	return doc, moved, nil
}

func (h *Host) editsFrom(ctx context.Context, from peer.ID, r EditsRequest) (doc []byte, moved int64, err error) {
	s, err := h.open(ctx, from, ProtocolBlocks)
	if err != nil {
		return nil, 0, err
	}
	// The stream stays open for writing until the answer is here: this is how
	// the other side knows that somebody still waits for it.
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if !h.can(ctx, from, wire.CapabilityEdits) {
		return nil, 0, ErrNoEdits
	}
	ask := &wire.Ask{
		Scope: &wire.Scope{
			Job: string(r.Job), Requester: []byte(r.Requester), Grant: wire.FromSigned(r.Grant), Capability: h.release.Capability,
		},
		Edits: &wire.EditsWant{Want: r.Want.Bytes(), Have: wire.CIDBytes(r.Have), Past: wire.FromSigned(r.Past)},
	}
	n, err := wire.Write(s, ask, wire.MaxAsk)
	moved += int64(n)
	if err != nil {
		return nil, moved, err
	}
	in := bufio.NewReader(s)
	var head wire.Answers
	n, err = wire.Read(in, &head, wire.MaxAnswers)
	moved += int64(n)
	h.stats.blocksIn.Add(int64(n))
	if err != nil {
		return nil, moved, err
	}
	if len(head.Answers) != 1 || head.Answers[0].GetIndex() != ask.Edits.Index {
		return nil, moved, fmt.Errorf("%d answers where one was asked for", len(head.Answers))
	}
	switch a := head.Answers[0]; a.GetEncoding() {
	case wire.Answer_EDITS:
		if a.GetSize() > wire.MaxEdits {
			return nil, moved, fmt.Errorf("%d bytes, at most %d: %w", a.GetSize(), wire.MaxEdits, wire.ErrTooLarge)
		}
		if doc, err = wire.ReadPayload(in, int(a.GetSize())); err != nil {
			return nil, moved, err
		}
		moved += int64(len(doc))
		h.stats.blocksIn.Add(int64(len(doc)))
		_ = s.CloseWrite() // so that it ends in order there
		return doc, moved, nil
	case wire.Answer_REFUSED:
		return nil, moved, ErrBlockRefused
	case wire.Answer_NOT_FOUND, wire.Answer_LATER:
		return nil, moved, ErrNoEdits
	default:
		return nil, moved, fmt.Errorf("encoding %v: %w", a.GetEncoding(), ErrNoEdits)
	}
}

// past is the earlier manifest that a want of edits builds on.
type past struct {
	have  cid.Cid // undefined: none
	grant job.Signed
}

func readEditsWant(w *wire.EditsWant) (want, error) {
	id, err := wire.CID(w.GetWant())
	if err != nil {
		return want{}, fmt.Errorf("blocks: edits: %w", err)
	}
	out := want{index: w.GetIndex(), id: id, edits: &past{}}
	if len(w.GetHave()) > 0 {
		if out.edits.have, err = wire.CID(w.GetHave()); err != nil {
			return want{}, fmt.Errorf("blocks: edits: %w", err)
		}
	}
	if out.edits.grant, err = w.GetPast().Value(wire.MaxSignedBytes); err != nil {
		return want{}, fmt.Errorf("blocks: edits: past grant: %w", err)
	}
	return out, nil
}

// answerEdits finds the document of a want that was found to be allowed.
func (b *blockServer) answerEdits(ctx context.Context, sc scope, w want) answer {
	none := func(e wire.Answer_Encoding) answer { return answer{head: &wire.Answer{Index: w.index, Encoding: e}} }
	if w.edits.have.Defined() && !b.grants.Had(sc.reader, sc.requester, w.edits.grant, w.edits.have) {
		return none(wire.Answer_REFUSED)
	}
	if b.documents == nil {
		return none(wire.Answer_NOT_FOUND)
	}
	doc, err := b.documents.get(ctx, w.edits.have, w.id)
	if err != nil {
		b.h.log.Debug("no edits", "peer", sc.reader, "job", sc.job, "have", w.edits.have, "want", w.id, "err", err)
		return none(wire.Answer_NOT_FOUND)
	}
	return answer{&wire.Answer{Index: w.index, Encoding: wire.Answer_EDITS, Size: uint32(len(doc))}, doc}
}
