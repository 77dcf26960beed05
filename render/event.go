package render

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"idlewild/job"
)

// Bounds of what a runner may say.
const (
	maxEventBytes   = 64 << 10 // one line of the events stream
	maxRequestBytes = 1 << 20  // one request
	maxPhaseBytes   = 64
	maxBuildBytes   = 256
)

// event is what render reads of a runner's line; unknown fields are ignored.
type event struct {
	Event    string  `json:"event"`
	ID       int64   `json:"id"`
	Phase    string  `json:"phase"`
	Fraction float64 `json:"fraction"`
	Outcome  string  `json:"outcome"`
	Reason   string  `json:"reason"`
	Device   string  `json:"device"`
	Build    string  `json:"build"`
	RenderS  float64 `json:"render_s"`
	LoadS    float64 `json:"load_s"`

	Data json.RawMessage `json:"data"` // what is known of the outputs
	raw  []byte
}

// parseEvent reads one line of the events stream.
func parseEvent(line []byte) (event, error) {
	if len(line) > maxEventBytes {
		return event{}, fmt.Errorf("event of %d bytes where at most %d are allowed", len(line), maxEventBytes)
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return event{}, fmt.Errorf("line that is no event: %w", err)
	}
	if e.Event == "" || len(e.Event) > maxPhaseBytes {
		return event{}, errors.New("line that is no event: no name")
	}
	e.raw = bytes.Clone(line)
	return e, nil
}

// progress is what the event says of the task, made safe to pass on.
func (e event) progress() Progress {
	return Progress{Phase: sentence(e.Phase, maxPhaseBytes), Fraction: min(max(e.Fraction, 0), 1), Data: e.Data}
}

// outcome reads the runner's own judgement; what is neither success nor the
// task's fault is this machine's.
func (e event) outcome() (job.Outcome, string) {
	reason := sentence(e.Reason, job.MaxReasonBytes)
	switch job.Outcome(e.Outcome) {
	case job.Succeeded:
		return job.Succeeded, ""
	case job.Failed:
		if reason == "" {
			reason = "the runner gave no reason"
		}
		return job.Failed, reason
	case job.Broken, job.OutOfMemory, job.OutOfVRAM:
		if reason == "" {
			reason = "the runner gave no reason"
		}
		return job.Outcome(e.Outcome), reason
	}
	return job.Broken, sentence(fmt.Sprintf("the runner ended with outcome %q: %s", e.Outcome, reason), job.MaxReasonBytes)
}

// seconds turns a runner's claim into a duration within [0, most].
func seconds(s float64, most time.Duration) time.Duration {
	if !(s > 0) {
		return 0
	}
	if s >= most.Seconds() {
		return max(most, 0)
	}
	return time.Duration(s * float64(time.Second))
}

// sentence makes text from a runner fit to be shown: valid UTF-8 on one line,
// at most n bytes.
func sentence(s string, n int) string {
	if len(s) > 4*n {
		s = s[:4*n]
	}
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
	if len(s) <= n {
		return s
	}
	s = s[:n]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// readEvents hands each event of r to yield until r ends, yield says no, or a
// line is no event. A runner that breaks the contract is not listened to
// further: err says what it wrote.
func readEvents(r io.Reader, yield func(event) bool) error {
	br := bufio.NewReaderSize(r, maxEventBytes)
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("event of more than %d bytes", maxEventBytes)
		}
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && (err == nil || json.Valid(trimmed)) {
			e, perr := parseEvent(trimmed)
			if perr != nil {
				return perr
			}
			if !yield(e) {
				return nil
			}
		}
		if err != nil {
			return nil // the stream's end; a torn last line is no event
		}
	}
}

// withID puts the request's number into its JSON object, on one line.
func withID(request []byte, id int64) ([]byte, error) {
	if len(request) > maxRequestBytes {
		return nil, fmt.Errorf("request of %d bytes where at most %d are allowed", len(request), maxRequestBytes)
	}
	var b bytes.Buffer
	b.Grow(len(request) + 32)
	if err := json.Compact(&b, request); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	body := b.Bytes()
	if len(body) < 2 || body[0] != '{' {
		return nil, errors.New("request: not a JSON object")
	}
	line := fmt.Appendf(make([]byte, 0, len(body)+32), `{"id":%d`, id)
	if len(body) > 2 {
		line = append(line, ',')
	}
	return append(append(line, body[1:]...), '\n'), nil
}
