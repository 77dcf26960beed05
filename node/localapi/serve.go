package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"time"
)

const (
	// EndpointFile is the file in the data folder that says where the door is
	// and what opens it. Only the owner can read it.
	EndpointFile = "api.json"
	socketFile   = "api.sock"
	// unixHost is the Host of requests over the unix socket.
	unixHost = "idlewild"
	// maxSocketPath is what sockaddr_un holds on every system we know.
	maxSocketPath = 103
)

// Endpoint is the content of EndpointFile.
type Endpoint struct {
	Address string `json:"address"`          // host:port on loopback
	Socket  string `json:"socket,omitempty"` // path of the unix socket; empty where there is none
	Token   string `json:"token"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	API     int    `json:"api"` // APILevel
}

// Door is an open door: listening, with nobody answering yet.
type Door struct {
	dir  string
	log  *slog.Logger
	tcp  net.Listener
	unix net.Listener // nil where there is none
}

// Listen opens the door of a data folder: on addr, which must be on loopback
// (empty: 127.0.0.1 and a port of the system's choice), and on a unix socket in
// dir.
func Listen(dir, addr string, log *slog.Logger) (*Door, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("local API: %w", err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("local API: address %q is not host:port", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("local API: address %q is not on loopback; only this machine may use it", addr)
	}
	if ep, err := ReadEndpoint(dir); err == nil && answers(ep) {
		return nil, fmt.Errorf("a daemon is running for %s already (process %d)", dir, ep.PID)
	}
	if answers(Endpoint{Socket: filepath.Join(dir, socketFile)}) {
		return nil, fmt.Errorf("a daemon is starting for %s already", dir)
	}
	d := &Door{dir: dir, log: log.With("part", "localapi")}
	// What a crash left would send clients to our socket with its token.
	if err := os.Remove(filepath.Join(dir, EndpointFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("local API: %w", err)
	}
	d.tcp, err = net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("local API: port of %s is taken by another program; choose another with --api, or none for a free one", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("local API: %w", err)
	}
	d.unix = d.listenUnix()
	return d, nil
}

// listenUnix opens the socket, or says in the log why there is none: the TCP
// port serves as well.
func (d *Door) listenUnix() net.Listener {
	path := filepath.Join(d.dir, socketFile)
	if len(path) > maxSocketPath {
		d.log.Debug("no unix socket: path of the data folder is too long", "bytes", len(path))
		return nil
	}
	// Nobody answers there (Listen asked), so it is what a crash left.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn("no unix socket", "error", err)
		return nil
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		d.log.Warn("no unix socket", "error", err)
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		d.log.Warn("no unix socket", "error", err)
		_ = l.Close() // the chmod's error says enough
		return nil
	}
	return l
}

// Addr is host:port of the TCP side.
func (d *Door) Addr() string { return d.tcp.Addr().String() }

// Close shuts a door that Serve was not called on.
func (d *Door) Close() error {
	err := d.tcp.Close()
	if d.unix != nil {
		err = errors.Join(err, d.unix.Close())
	}
	return err
}

// Serve answers with h until ctx ends. While it runs, EndpointFile tells
// clients where and how; the file is gone when it returns.
func (d *Door) Serve(ctx context.Context, h *Handler) error {
	ep := Endpoint{Address: d.Addr(), Token: h.Token, PID: os.Getpid(), Version: h.Version, API: APILevel}
	if d.unix != nil {
		ep.Socket = d.unix.Addr().String()
	}
	// Handlers' contexts end first: event streams would hold the server up.
	base, stop := context.WithCancel(ctx)
	defer stop()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    MaxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 2)
	serve := func(l net.Listener) { failed <- srv.Serve(l) }
	n := 1
	go serve(d.tcp)
	if d.unix != nil {
		n++
		go serve(d.unix)
	}
	err := writeEndpoint(d.dir, ep)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
			n--
		}
	}
	removeEndpoint(d.dir, ep)
	stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // who is not done by now is cut off
	}
	for range n {
		<-failed
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local API: %w", err)
	}
	return nil
}

// ReadEndpoint reads the EndpointFile of a data folder.
func ReadEndpoint(dir string) (Endpoint, error) {
	f, err := os.Open(filepath.Join(dir, EndpointFile))
	if err != nil {
		return Endpoint{}, err
	}
	defer f.Close()
	var ep Endpoint
	b := make([]byte, 16<<10)
	n, err := f.Read(b)
	if err != nil {
		return Endpoint{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if err := json.Unmarshal(b[:n], &ep); err != nil {
		return Endpoint{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if ep.Token == "" || (ep.Address == "" && ep.Socket == "") {
		return Endpoint{}, fmt.Errorf("read %s: no address or no token in it", f.Name())
	}
	return ep, nil
}

// writeEndpoint writes the file whole or not at all: beside, then rename.
func writeEndpoint(dir string, ep Endpoint) error {
	b, err := json.MarshalIndent(ep, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, EndpointFile+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, EndpointFile))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says enough
	}
	return err
}

// removeEndpoint removes the file unless it is another daemon's by now.
func removeEndpoint(dir string, ep Endpoint) {
	if now, err := ReadEndpoint(dir); err == nil && now == ep {
		_ = os.Remove(filepath.Join(dir, EndpointFile)) // a stale file is harmless
	}
}

// answers reports whether a daemon still listens where ep says. Connecting is
// enough: the token is not shown to whoever took over the port.
func answers(ep Endpoint) bool {
	network, addr := "tcp", ep.Address
	if ep.Socket != "" {
		network, addr = "unix", ep.Socket
	}
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said
	return true
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
