package p2p

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// throttle bounds how many bytes of blocks pass in a second, for all streams
// together. Nil lets everything pass.
type throttle struct{ bucket *rate.Limiter }

// burst is what may pass at once after a rest: more than a packet train, less
// than what anybody notices.
const burst = 128 << 10

func newThrottle(bytesPerSecond int64) *throttle {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &throttle{rate.NewLimiter(rate.Limit(bytesPerSecond), burst)}
}

// wait returns when n bytes may pass, or ctx has ended.
func (t *throttle) wait(ctx context.Context, n int) error {
	if t == nil {
		return nil
	}
	for n > 0 {
		part := min(n, burst)
		if err := t.bucket.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// write writes p as fast as it may. until wraps each write in a bound of its
// own, because waiting for the bucket is nobody's fault.
func (t *throttle) write(ctx context.Context, w io.Writer, p []byte, until func() (stop func() bool)) error {
	for first := true; first || len(p) > 0; first = false {
		part := p
		if t != nil {
			part = p[:min(len(p), burst)]
		}
		if err := t.wait(ctx, len(part)); err != nil {
			return err
		}
		stop := until()
		_, err := w.Write(part)
		stop()
		if err != nil {
			return err
		}
		p = p[len(part):]
	}
	return nil
}

// reader reads from r as fast as it may: what was read is paid for before the
// next read, so that the sender is slowed down by a full window.
func (t *throttle) reader(ctx context.Context, r io.Reader) io.Reader {
	if t == nil {
		return r
	}
	return &slowReader{ctx: ctx, t: t, r: r}
}

type slowReader struct {
	ctx  context.Context
	t    *throttle
	r    io.Reader
	owed int
}

// Read implements io.Reader.
func (s *slowReader) Read(p []byte) (int, error) {
	if err := s.t.wait(s.ctx, s.owed); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.owed = n
	return n, err
}
