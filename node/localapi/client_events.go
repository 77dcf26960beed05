package localapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"idlewild/job"
)

const (
	maxEventBytes = 1 << 20
	// silence is how long a stream may say nothing, not even that it lives.
	silence = 3 * beatEvery
)

// Events yields what happens to a job after seq (0: from now on), or to all
// jobs where id is empty, until ctx ends. An error is the last thing that is
// yielded: the stream was cut, and can be resumed after the last event's Seq.
func (c *Client) Events(ctx context.Context, id job.ID, seq uint64) iter.Seq2[job.Event, error] {
	return func(yield func(job.Event, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		path := "/v1/events"
		if id != "" {
			path += "?" + url.Values{"job": {string(id)}}.Encode()
		}
		header := http.Header{"Accept": {"text/event-stream"}}
		if seq > 0 {
			header.Set("Last-Event-ID", strconv.FormatUint(seq, 10))
		}
		resp, err := c.do(ctx, "GET", path, nil, header)
		if err != nil {
			yield(job.Event{}, err)
			return
		}
		defer resp.Body.Close()
		quiet := time.AfterFunc(silence, func() { cancel(errors.New("the daemon fell silent")) })
		defer quiet.Stop()
		for e, err := range readEvents(resp.Body, func() { quiet.Reset(silence) }) {
			if err != nil {
				yield(job.Event{}, c.trouble(ctx, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// readEvents decodes server-sent events; alive is called for every line. It
// ends with an error, io.ErrUnexpectedEOF where the stream just stopped.
func readEvents(r io.Reader, alive func()) iter.Seq2[job.Event, error] {
	return func(yield func(job.Event, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 4096), maxEventBytes)
		var data strings.Builder
		for lines.Scan() {
			alive()
			line := lines.Text()
			if line != "" {
				if d, ok := strings.CutPrefix(line, "data:"); ok {
					if data.Len()+len(d) > maxEventBytes {
						yield(job.Event{}, fmt.Errorf("event of more than %d bytes", maxEventBytes))
						return
					}
					data.WriteString(strings.TrimPrefix(d, " "))
					data.WriteByte('\n')
				}
				continue // id and event stand in data too, the rest is comment
			}
			if data.Len() == 0 {
				continue
			}
			var e job.Event
			err := json.Unmarshal([]byte(data.String()), &e)
			data.Reset()
			if err != nil {
				yield(job.Event{}, fmt.Errorf("event: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		err := lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(job.Event{}, err)
	}
}
