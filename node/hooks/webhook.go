package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// secretPrefix begins a secret in base64, as the specification has it.
const secretPrefix = "whsec_"

// secretBytes is the key that a secret stands for.
func secretBytes(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	key := []byte(s)
	if rest, ok := strings.CutPrefix(s, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(rest); err != nil {
			return nil, errors.New("what follows whsec_ is no base64; make one with: echo whsec_$(head -c 32 /dev/urandom | base64)")
		}
	}
	if len(key) < 16 {
		return nil, errors.New("it is shorter than 16 bytes; make one with: echo whsec_$(head -c 32 /dev/urandom | base64)")
	}
	return key, nil
}

// checkURL says why events may not be posted there. Names of scenes and paths
// are in them, so outside of one's own network they go encrypted.
func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("it is no http or https address")
	}
	if u.User != nil {
		return errors.New("it has a password in it, which logs would show; let the signature say who posts")
	}
	if u.Scheme == "http" && !ownNetwork(u.Hostname()) {
		return fmt.Errorf("names of scenes would cross the internet unencrypted to %s; use https", u.Hostname())
	}
	return nil
}

func ownNetwork(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
	}
	host = strings.ToLower(host)
	for _, end := range []string{".local", ".lan", ".internal", ".home.arpa", ".localhost"} {
		if strings.HasSuffix(host, end) {
			return true
		}
	}
	return !strings.Contains(host, ".")
}

// webhook posts.
type webhook struct {
	url    string
	key    []byte // nil: unsigned
	client *http.Client
	now    func() time.Time
}

func newWebhook(to string, key []byte, timeout time.Duration, t http.RoundTripper) webhook {
	return webhook{url: to, key: key, now: time.Now, client: &http.Client{
		Timeout: timeout, Transport: t,
		// Whoever is named by a redirect was not chosen by the owner.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// sign is the signature of a body: HMAC-SHA256 of "id.time.body".
func sign(key []byte, id string, at int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (w webhook) tell(ctx context.Context, m message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(m.Body))
	if err != nil {
		return fmt.Errorf("%w: the address is malformed", errFinal)
	}
	at := w.now().Unix()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "idlewild")
	req.Header.Set("webhook-id", m.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at, 10))
	if w.key != nil {
		req.Header.Set("webhook-signature", sign(w.key, m.ID, at, m.Body))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL.Hostname(), bare(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	switch c := resp.StatusCode; {
	case c >= 200 && c < 300:
		return nil
	case c == http.StatusTooManyRequests || c == http.StatusRequestTimeout || c == http.StatusTooEarly || c >= 500:
		err = fmt.Errorf("%s answers %s", req.URL.Hostname(), resp.Status)
		if s, perr := strconv.Atoi(resp.Header.Get("Retry-After")); perr == nil && s > 0 && s < 1<<20 {
			return retryAfter{err, time.Duration(s) * time.Second}
		}
		return err
	case c >= 300 && c < 400:
		return fmt.Errorf("%w: %s answers %s: redirects are not followed, put the right address into hooks.url", errFinal, req.URL.Hostname(), resp.Status)
	default:
		return fmt.Errorf("%w: %s answers %s", errFinal, req.URL.Hostname(), resp.Status)
	}
}

// bare is an error of the HTTP client without the address, whose path or query
// may be a secret.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var d *net.OpError
	if errors.As(err, &d) {
		return d.Err
	}
	return err
}
