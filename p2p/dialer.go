package p2p

import (
	"crypto/rand"
	"errors"
	"sync"

	"github.com/libp2p/go-libp2p/config"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// dialer is a host that does nothing but dial, under an identity of its own.
// One of libp2p.New would watch addresses and trim connections all day.
type dialer struct {
	*blankhost.BlankHost
	quic  *quicreuse.ConnManager
	peers peerstore.Peerstore

	once   sync.Once
	closed error
}

var _ host.Host = (*dialer)(nil)

func newDialer(limits network.ResourceManager) (*dialer, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	reset, err := config.PrivKeyToStatelessResetKey(key)
	if err != nil {
		return nil, err
	}
	token, err := config.PrivKeyToTokenGeneratorKey(key)
	if err != nil {
		return nil, err
	}
	d := &dialer{}
	if d.quic, err = quicreuse.NewConnManager(reset, token); err != nil {
		return nil, err
	}
	if d.peers, err = pstoremem.NewPeerstore(); err != nil {
		return nil, errors.Join(err, d.quic.Close())
	}
	sw, err := d.swarm(key, id, limits)
	if err != nil {
		return nil, errors.Join(err, d.quic.Close(), d.peers.Close())
	}
	d.BlankHost = blankhost.NewBlankHost(sw)
	return d, nil
}

func (d *dialer) swarm(key crypto.PrivKey, id peer.ID, limits network.ResourceManager) (*swarm.Swarm, error) {
	if err := errors.Join(d.peers.AddPrivKey(id, key), d.peers.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, limits, nil)
	if err != nil {
		return nil, err
	}
	overTCP, err := tcp.NewTCPTransport(up, limits, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(dialTime))
	if err != nil {
		return nil, err
	}
	overQUIC, err := libp2pquic.NewTransport(key, d.quic, nil, nil, limits)
	if err != nil {
		return nil, err
	}
	sw, err := swarm.NewSwarm(id, d.peers, eventbus.NewBus(), swarm.WithResourceManager(limits))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(sw.AddTransport(overTCP), sw.AddTransport(overQUIC)); err != nil {
		return nil, errors.Join(err, sw.Close())
	}
	return sw, nil
}

// Close implements host.Host. AutoNAT closes what dials for it, and so does
// whoever made it.
func (d *dialer) Close() error {
	d.once.Do(func() { d.closed = errors.Join(d.BlankHost.Close(), d.quic.Close(), d.peers.Close()) })
	return d.closed
}
