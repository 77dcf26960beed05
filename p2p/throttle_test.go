package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, size = 1 << 20, 10 << 20
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		took := func(f func()) time.Duration {
			start := time.Now()
			f()
			return time.Since(start)
		}
		free := func() func() bool { return func() bool { return true } }
		var out bytes.Buffer
		d := took(func() {
			if err := newThrottle(perSecond).write(t.Context(), turn{}, &out, data, free); err != nil {
				t.Fatal(err)
			}
		})
		if d < 9*time.Second || d > 11*time.Second || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("10 MiB at 1 MiB/s left in %v, %d bytes", d, out.Len())
		}
		var in []byte
		d = took(func() {
			var err error
			if in, err = io.ReadAll(newThrottle(perSecond).reader(t.Context(), turn{}, bytes.NewReader(data))); err != nil {
				t.Fatal(err)
			}
		})
		if d < 9*time.Second || d > 11*time.Second || !bytes.Equal(in, data) {
			t.Errorf("10 MiB at 1 MiB/s came in %v, %d bytes", d, len(in))
		}

		// No limit takes no time, and writes in one piece.
		out.Reset()
		if d = took(func() { newThrottle(0).write(t.Context(), turn{}, &out, data, free) }); d != 0 || out.Len() != size {
			t.Errorf("%v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newThrottle(1000).write(ctx, turn{}, &out, data, free); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a wait that is longer than its context: %v", err)
		}
	})
}
