package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxArchive bounds an archive's bytes: the largest official one has a tenth.
const maxArchive = 4 << 30

// Progress says how far an installation is; total is 0 while it is not known.
type Progress func(phase string, done, total int64)

// errStalled is the cause of a download that ends because nothing comes.
var errStalled = errors.New("nothing came for a minute")

// errFinal marks what another try would not mend.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

// download brings the archive at url to path and checks its hash. What was
// loaded before, of a try that was cut off, is gone on with.
func download(ctx context.Context, url, path, sum string, progress Progress) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	done, err := io.Copy(h, io.LimitReader(f, maxArchive)) // leaves f at its end
	if err != nil {
		return err
	}
	kept := done > 0 // of an earlier try, perhaps of another file
	is := func() bool { return hex.EncodeToString(h.Sum(nil)) == sum }
	for tries := 0; !is(); {
		before := done
		whole, err := fetch(ctx, url, f, h, &done, progress)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the download was ended; what came is kept, and the next one goes on from there: %w", context.Cause(ctx))
		case err == nil && whole && !is():
			// What was kept of another file, or was damaged, is one more try.
			if !kept {
				os.Remove(path)
				return fmt.Errorf("%s is not the archive that was pinned: its SHA-256 is %s and should be %s; nothing of it was used", url, hex.EncodeToString(h.Sum(nil)), sum)
			}
			kept = false
			if err := restart(f, h, &done); err != nil {
				return err
			}
		case err != nil:
			var final errFinal
			if done > before {
				tries = 0
			}
			if tries++; tries == 4 || errors.As(err, &final) {
				return fmt.Errorf("download %s: %w", url, err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(tries) * retryAfter):
			}
		}
	}
	return f.Sync()
}

// retryAfter is how long a download waits before it goes on, the first time.
var retryAfter = time.Second

func restart(f *os.File, h hash.Hash, done *int64) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	*done = 0
	h.Reset()
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// fetch asks for what is missing and appends it; whole says that there is no
// more.
func fetch(ctx context.Context, url string, f *os.File, h hash.Hash, done *int64, progress Progress) (whole bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(time.Minute, func() { cancel(errStalled) })
	defer stall.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, errFinal{err}
	}
	if *done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", *done))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, cause(ctx, err)
	}
	defer res.Body.Close()
	total := int64(0)
	switch {
	case res.StatusCode == http.StatusOK:
		if err := restart(f, h, done); err != nil {
			return false, errFinal{err}
		}
		total = max(res.ContentLength, 0)
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", *done)):
		if res.ContentLength > 0 {
			total = *done + res.ContentLength
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && *done > 0:
		return true, nil // all of it is here
	case res.StatusCode >= 500:
		return false, fmt.Errorf("the mirror says %s", res.Status)
	default:
		return false, errFinal{fmt.Errorf("the mirror says %s; blender.mirror names another one", res.Status)}
	}
	if total > maxArchive {
		return false, errFinal{fmt.Errorf("it has %d bytes, at most %d are taken", total, int64(maxArchive))}
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buf)
		stall.Reset(time.Minute)
		if n > 0 {
			if *done += int64(n); *done > maxArchive {
				return false, errFinal{fmt.Errorf("it has more than %d bytes", int64(maxArchive))}
			}
			if _, err := f.Write(buf[:n]); err != nil {
				return false, errFinal{err}
			}
			h.Write(buf[:n])
			progress("downloading", *done, total)
		}
		switch {
		case err == io.EOF && total > 0 && *done < total:
			return false, io.ErrUnexpectedEOF
		case err == io.EOF:
			return true, nil
		case err != nil:
			return false, cause(ctx, err)
		}
	}
}

func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
