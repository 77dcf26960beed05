package localapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// MaxBodyBytes bounds the body of a request, MaxAskedBytes that of one to a
	// model, MaxFileBytes a file of them.
	MaxBodyBytes  = 1 << 20
	MaxAskedBytes = 4 << 20
	MaxFileBytes  = 512 << 20
	// MaxHeaderBytes bounds its headers.
	MaxHeaderBytes = 16 << 10

	bodyTimeout = 10 * time.Second

	// HeaderVersion names the daemon's version on every answer.
	HeaderVersion = "Idlewild-Version"
	// HeaderAPI names the daemon's APILevel on every answer.
	HeaderAPI = "Idlewild-Api"
)

// guard stands before every endpoint. A daemon on loopback can be reached by
// every program of every user of the machine, and by every web page that one
// of them opens, so a request passes only if it names this machine as its
// host, comes from no foreign page, and carries the token from a file that
// only the owner can read.
type guard struct {
	token   [sha256.Size]byte // of the token: equal length for the comparison
	version string
	public  func(http.ResponseWriter, *http.Request) bool // answers what needs no token
	next    http.Handler
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set(HeaderVersion, g.version)
	h.Set(HeaderAPI, apiLevelText)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")

	if validHost(r) && g.public(w, r) {
		return
	}
	if err := g.check(w, r); err != nil {
		if err.Status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", "Bearer")
		}
		writeError(w, err)
		return
	}
	g.next.ServeHTTP(w, r)
}

// check returns what is wrong with r, or nil; the body is read by then.
func (g *guard) check(w http.ResponseWriter, r *http.Request) *Error {
	if !validHost(r) {
		return newError(http.StatusForbidden, "the Host header does not name this daemon")
	}
	if why := foreign(r); why != "" {
		return newError(http.StatusForbidden, why)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return newError(http.StatusBadRequest, "the query of the URL is malformed")
	}
	for name, values := range q {
		// A URL ends up in histories, logs and process lists.
		if n := strings.ToLower(name); n == "token" || n == "access_token" || n == "auth" || n == "key" {
			return newError(http.StatusBadRequest, "a token does not belong into the URL; send it as Authorization: Bearer")
		}
		for _, v := range values {
			if g.is(v) {
				return newError(http.StatusBadRequest, "a token does not belong into the URL; send it as Authorization: Bearer")
			}
		}
	}
	auth := r.Header.Values("Authorization")
	if len(auth) == 0 {
		return newError(http.StatusUnauthorized, "no token given; it stands in "+EndpointFile+" of the data folder")
	}
	scheme, token, ok := strings.Cut(auth[0], " ")
	if len(auth) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || !g.is(token) {
		return newError(http.StatusUnauthorized, "wrong token; the right one stands in "+EndpointFile+" of the data folder")
	}
	return readBody(w, r)
}

// is compares in constant time; hashing first hides the length too.
func (g *guard) is(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// validHost reports whether the request was addressed to where it arrived. A
// page that points its own DNS name at 127.0.0.1 keeps its name in Host.
func validHost(r *http.Request) bool {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch a := addr.(type) {
	case *net.TCPAddr:
		host, port, err := net.SplitHostPort(r.Host)
		if err != nil || port != portText(a.Port) {
			return false
		}
		return host == "localhost" || host == "127.0.0.1" || host == a.IP.String()
	case *net.UnixAddr:
		return r.Host == unixHost || r.Host == "localhost"
	}
	return false
}

// foreign says why the request looks like a web page's, or "". A page of this
// very origin (a dashboard) may ask; it has to have the token all the same.
func foreign(r *http.Request) string {
	own := "http://" + r.Host
	for _, o := range r.Header.Values("Origin") {
		if o != own {
			return "requests from web pages are refused (Origin)"
		}
	}
	for _, ref := range r.Header.Values("Referer") {
		if ref != own && !strings.HasPrefix(ref, own+"/") {
			return "requests from web pages are refused (Referer)"
		}
	}
	for _, s := range r.Header.Values("Sec-Fetch-Site") {
		if s != "same-origin" && s != "none" {
			return "requests from web pages are refused (Sec-Fetch-Site)"
		}
	}
	return ""
}

// readBody takes the whole body in before a handler runs, under a deadline
// that then goes away: handlers may take long, and an expired read deadline
// would look like a caller that hung up.
func readBody(w http.ResponseWriter, r *http.Request) *Error {
	limit := int64(MaxBodyBytes)
	switch {
	case r.Method == http.MethodPost && r.URL.Path == pathFiles:
		return nil // read as it comes
	case r.Method == http.MethodPost && slices.Contains(asked, r.URL.Path):
		limit = MaxAskedBytes
	}
	tooLarge := newError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body of the request is over %d MiB", limit>>20))
	if r.ContentLength > limit {
		return tooLarge
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = ctl.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return tooLarge
	}
	if err != nil {
		return newError(http.StatusBadRequest, "the body of the request did not arrive whole")
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

func writeError(w http.ResponseWriter, e *Error) {
	b, err := json.Marshal(e)
	if err != nil {
		http.Error(w, e.Detail, e.Status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(b, '\n')) // the caller may be gone
}
