package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"idlewild/job"
)

var (
	// ErrNoDaemon is matched when nobody answers for a data folder.
	ErrNoDaemon = errors.New("no daemon is running")
	// ErrToken is matched when the daemon does not take our token.
	ErrToken = errors.New("the daemon refuses the token")
	// ErrVersion is matched when daemon and program do not understand each
	// other.
	ErrVersion = errors.New("version mismatch")
	// errNobody is ErrNoDaemon where not even a connection came about.
	errNobody = fmt.Errorf("%w", ErrNoDaemon)
)

const (
	maxAnswerBytes = 1 << 30 // a job's status with all its frames
	dialTimeout    = 5 * time.Second
)

// Client speaks to the daemon of one data folder. Its methods are those of
// Jobs, Views, Machine and Farm, and give the same errors: a job.RefusedError
// arrives as one. It may be used by several goroutines.
type Client struct {
	dir string

	mu  sync.Mutex
	way *way
}

// way is how a daemon is reached.
type way struct {
	ep   Endpoint
	base string
	http *http.Client
}

// Dial reads where the daemon of a data folder is. It does not connect: a
// daemon that is gone shows in the first call, as ErrNoDaemon. One that was
// restarted is found again.
func Dial(dir string) (*Client, error) {
	w, err := find(dir)
	if err != nil {
		return nil, err
	}
	return &Client{dir: dir, way: w}, nil
}

func find(dir string) (*way, error) {
	ep, err := ReadEndpoint(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, noDaemon(dir)
	}
	if err != nil {
		return nil, err
	}
	if ep.API != APILevel {
		return nil, mismatch(dir, ep.Version, ep.API)
	}
	c := &way{ep: ep, base: "http://" + ep.Address}
	d := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{DialContext: d.DialContext, MaxIdleConns: 4, IdleConnTimeout: time.Minute}
	if ep.Socket != "" {
		// Nobody else can sit down at the socket after a crash, as they
		// could at the port.
		c.base = "http://" + unixHost
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", ep.Socket)
		}
	}
	c.http = &http.Client{
		Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the daemon does not redirect; something else answers there")
		},
	}
	return c, nil
}

func noDaemon(dir string) error {
	if answers(Endpoint{Socket: filepath.Join(dir, socketFile)}) {
		return fmt.Errorf("%w for %s yet; the one that is starting there looks at this machine's Blenders first: wait a moment", errNobody, dir)
	}
	return fmt.Errorf("%w for %s; start it with: idlewild up", errNobody, dir)
}

func mismatch(dir, version string, api int) error {
	if api > APILevel {
		return fmt.Errorf("%w: the daemon for %s is idlewild %s and newer than this program; update this program", ErrVersion, dir, version)
	}
	return fmt.Errorf("%w: the daemon for %s is idlewild %s and older than this program; restart it with: idlewild up", ErrVersion, dir, version)
}

// Endpoint is what the daemon's file says.
func (c *Client) Endpoint() Endpoint { return c.current().ep }

// Close lets go of idle connections.
func (c *Client) Close() { c.current().http.CloseIdleConnections() }

func (c *Client) current() *way {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.way
}

// moved looks whether the daemon is elsewhere by now, or has another token.
func (c *Client) moved(from *way) (*way, bool) {
	now, err := find(c.dir)
	if err != nil || now.ep == from.ep {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.way = now
	from.http.CloseIdleConnections()
	return now, true
}

// Status returns this machine and its farm at a glance.
func (c *Client) Status(ctx context.Context) (v StatusView, err error) {
	return v, c.call(ctx, "GET", "/v1/status", nil, &v)
}

// Submit accepts a job; see Jobs.
func (c *Client) Submit(ctx context.Context, s job.Spec) (job.ID, error) {
	var v Submitted
	err := c.call(ctx, "POST", "/v1/jobs", s, &v)
	return v.Job, err
}

// Inspect looks at a spec's input; see Jobs.
func (c *Client) Inspect(ctx context.Context, s job.Spec) (v job.Inspection, err error) {
	return v, c.call(ctx, "POST", "/v1/inspect", s, &v)
}

// Estimate says what a job would take; see Previews.
func (c *Client) Estimate(ctx context.Context, s job.Spec) (v Estimate, err error) {
	return v, c.call(ctx, "POST", "/v1/estimate", s, &v)
}

// Frames returns some tasks of a job: those in a state (empty: all), at most
// limit.
func (c *Client) Frames(ctx context.Context, id job.ID, state string, limit int) (v FrameList, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if state != "" {
		q.Set("state", state)
	}
	return v, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(string(id))+"/frames?"+q.Encode(), nil, &v)
}

// Thumbnail returns a delivered file as a small PNG.
func (c *Client) Thumbnail(ctx context.Context, id job.ID, label string, side int) ([]byte, error) {
	var b []byte
	q := url.Values{"task": {label}, "side": {strconv.Itoa(side)}}
	err := c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(string(id))+"/thumbnail?"+q.Encode(), nil, &b)
	return b, err
}

// Jobs returns every job of the daemon, newest first, without frames.
func (c *Client) Jobs(ctx context.Context) ([]job.Status, error) {
	var v JobList
	err := c.call(ctx, "GET", "/v1/jobs", nil, &v)
	return v.Jobs, err
}

// Job returns one job with its frames and workers.
func (c *Client) Job(ctx context.Context, id job.ID) (v job.Status, err error) {
	return v, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(string(id)), nil, &v)
}

// Steer cancels, pauses or resumes a job and returns how it stands then.
func (c *Client) Steer(ctx context.Context, id job.ID, a job.Action) (v job.Status, err error) {
	return v, c.call(ctx, "POST", "/v1/jobs/"+url.PathEscape(string(id))+"/"+url.PathEscape(string(a)), nil, &v)
}

// Resubmit submits a job again, without what nothing changed for.
func (c *Client) Resubmit(ctx context.Context, id job.ID) (job.ID, error) {
	var v Submitted
	err := c.call(ctx, "POST", "/v1/jobs/"+url.PathEscape(string(id))+"/resubmit", nil, &v)
	return v.Job, err
}

// Requeue runs a task again and returns how the job stands then.
func (c *Client) Requeue(ctx context.Context, id job.ID, label string) (v job.Status, err error) {
	return v, c.call(ctx, "POST", "/v1/jobs/"+url.PathEscape(string(id))+"/requeue", requeueBody{label}, &v)
}

// Log returns the newest log of a task, or every log that is kept of the job
// where label is "".
func (c *Client) Log(ctx context.Context, id job.ID, label string) ([]byte, error) {
	path := "/v1/jobs/" + url.PathEscape(string(id)) + "/log"
	if label != "" {
		path += "?" + url.Values{"task": {label}}.Encode()
	}
	var b []byte
	err := c.call(ctx, "GET", path, nil, &b)
	return b, err
}

// SharedBlenders lists the Blenders that members may fetch.
func (c *Client) SharedBlenders(ctx context.Context) ([]SharedBlender, error) {
	var v sharedBlenders
	err := c.call(ctx, "GET", "/v1/blenders/shared", nil, &v)
	return v.Blenders, err
}

// ShareBlender lets members fetch one.
func (c *Client) ShareBlender(ctx context.Context, which string) (v SharedBlender, err error) {
	return v, c.call(ctx, "POST", "/v1/blenders/shared", shareBody{which}, &v)
}

// UnshareBlender lets them fetch it no more.
func (c *Client) UnshareBlender(ctx context.Context, root string) error {
	var v sharedBlenders
	return c.call(ctx, "DELETE", "/v1/blenders/shared/"+url.PathEscape(root), nil, &v)
}

// Store tells what is in the daemon's store.
func (c *Client) Store(ctx context.Context) (v StoreView, err error) {
	return v, c.call(ctx, "GET", "/v1/store", nil, &v)
}

// CollectStore drops blocks that no job holds, until keep bytes are left.
func (c *Client) CollectStore(ctx context.Context, keep int64) (v StoreWork, err error) {
	return v, c.call(ctx, "POST", "/v1/store/gc", gcBody{keep}, &v)
}

// VerifyStore reads every block and drops those that are damaged.
func (c *Client) VerifyStore(ctx context.Context) (v StoreWork, err error) {
	return v, c.call(ctx, "POST", "/v1/store/verify", nil, &v)
}

// Peers returns the farm and its members.
func (c *Client) Peers(ctx context.Context) (v FarmView, err error) {
	return v, c.call(ctx, "GET", "/v1/peers", nil, &v)
}

// CreateFarm makes a private farm; see Farm.
func (c *Client) CreateFarm(ctx context.Context, name string) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm", createBody{name}, &v)
}

// Invite makes a ticket; see Farm.
func (c *Client) Invite(ctx context.Context, valid time.Duration) (string, error) {
	return c.InviteGuest(ctx, valid, 0)
}

// InviteGuest makes a ticket for a machine that is a member for so long; see
// Farm.
func (c *Client) InviteGuest(ctx context.Context, valid, stay time.Duration) (string, error) {
	var v Ticket
	err := c.call(ctx, "POST", "/v1/farm/invite", inviteBody{valid.Seconds(), stay.Seconds()}, &v)
	return v.Ticket, err
}

// Join joins the farm that a ticket is for; see Farm.
func (c *Client) Join(ctx context.Context, ticket string) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/join", joinBody{ticket}, &v)
}

// LeaveFarm ends this machine's membership, and returns what was left; see Farm.
func (c *Client) LeaveFarm(ctx context.Context) (left FarmView, err error) {
	return left, c.call(ctx, "POST", "/v1/farm/leave", nil, &left)
}

// Revoke takes a member's right away; see Farm.
func (c *Client) Revoke(ctx context.Context, peer string) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/revoke", revokeBody{peer}, &v)
}

// Ban gives a member no work of this machine; see Farm.
func (c *Client) Ban(ctx context.Context, peer, reason string, d time.Duration) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/ban", banBody{peer, reason, d.Seconds()}, &v)
}

// Pardon ends a ban; see Farm.
func (c *Client) Pardon(ctx context.Context, peer, reason string) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/pardon", pardonBody{peer, reason}, &v)
}

// SetPaused stops or starts taking work from others; see Machine.
func (c *Client) SetPaused(ctx context.Context, paused bool, reason string) (v MachineView, err error) {
	return c.Pause(ctx, PauseWish{Paused: paused, Reason: reason})
}

// Pause stops or starts taking work from others, for as long as is wished.
func (c *Client) Pause(ctx context.Context, w PauseWish) (v MachineView, err error) {
	return v, c.call(ctx, "POST", "/v1/machine/pause", w, &v)
}

// Doctor says what is wrong between the machine and its farm; with speed it
// takes some seconds for each member.
func (c *Client) Doctor(ctx context.Context, speed bool) (v DoctorView, err error) {
	return v, c.call(ctx, "GET", fmt.Sprintf("/v1/doctor?speed=%v", speed), nil, &v)
}

// Why says which signal decides what each device may do for others.
func (c *Client) Why(ctx context.Context) (v WhyView, err error) {
	return v, c.call(ctx, "GET", "/v1/machine/why", nil, &v)
}

// call sends body as JSON (nil: none) and decodes the answer into v, a pointer;
// a *[]byte takes it as it is.
func (c *Client) call(ctx context.Context, method, path string, body, v any) error {
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return c.trouble(ctx, err)
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = b
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("answer of the daemon: %w", err)
	}
	return nil
}

// do sends one request and returns a successful answer; its body is open. A
// request that surely had no effect, because nobody answered or the token was
// an earlier daemon's, is sent once more where the daemon moved.
func (c *Client) do(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
		if len(b) > MaxBodyBytes {
			return nil, newError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has %d bytes where at most %d are allowed", len(b), MaxBodyBytes))
		}
	}
	w := c.current()
	resp, err := c.send(ctx, w, method, path, b, header)
	if errors.Is(err, errNobody) || errors.Is(err, ErrToken) {
		if w, ok := c.moved(w); ok {
			return c.send(ctx, w, method, path, b, header)
		}
	}
	return resp, err
}

// send is do without the second try. A nil body is none.
func (c *Client) send(ctx context.Context, w *way, method, path string, body []byte, header http.Header) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, r)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+w.ep.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, c.trouble(ctx, err)
	}
	switch level := resp.Header.Get(HeaderAPI); {
	case level == "":
		_ = resp.Body.Close() // not ours to read
		return nil, fmt.Errorf("%w for %s; another program answers at its address", ErrNoDaemon, c.dir)
	case level != apiLevelText:
		_ = resp.Body.Close() // not ours to read
		var n int
		_, _ = fmt.Sscan(level, &n) // 0 is older than any
		return nil, mismatch(c.dir, resp.Header.Get(HeaderVersion), n)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBodyBytes))
	if err != nil {
		return nil, c.trouble(ctx, err)
	}
	e := new(Error)
	if json.Unmarshal(b, e) != nil || e.Detail == "" {
		return nil, fmt.Errorf("the daemon answers %s", resp.Status)
	}
	return nil, e.asGo()
}

// closedIdle is what package net/http says, by an error that it does not export,
// of a request that met the end of a connection kept from an earlier one. It sends
// a GET again by itself, but a POST it does not.
const closedIdle = "http: server closed idle connection"

// trouble says what a failed connection means.
func (c *Client) trouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return noDaemon(c.dir)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the URL, which says nothing to people
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w for %s any more: it stopped while it answered", ErrNoDaemon, c.dir)
	}
	if err.Error() == closedIdle {
		return fmt.Errorf("%w for %s any more: it stopped just now", ErrNoDaemon, c.dir)
	}
	return fmt.Errorf("reach the daemon for %s: %w", c.dir, err)
}
