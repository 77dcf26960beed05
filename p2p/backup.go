package p2p

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

const (
	backupMagic = "idlewild farm backup 1\n"
	// MaxBackupBytes bounds a backup before it is encrypted.
	MaxBackupBytes = 384 << 10
)

// ErrBackup is matched where a backup is not one, or not one that helps.
var ErrBackup = errors.New("this is no backup that a farm can be recovered from")

// backupFile is what an owner's node needs to be one again. This machine's
// identity is not in it: the machine that recovers is a new member.
type backupFile struct {
	At      time.Time    `cbor:"at"`
	Name    string       `cbor:"name"`
	Key     []byte       `cbor:"key"` // the root's private key
	Root    []byte       `cbor:"root"`
	Chain   []job.Signed `cbor:"chain"`
	Members []memberFile `cbor:"members"`
	Revoked []job.Signed `cbor:"revoked"`
	Content *job.Signed  `cbor:"content"`
}

// Backup returns what an owner's node needs to be one again, the root key among
// it: whoever has it owns the farm. It is to be encrypted before it is written
// anywhere.
func (m *Membership) Backup() ([]byte, error) {
	here := m.host.direct()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.root == "":
		return nil, ErrNoFarm
	case m.rootKey == nil:
		return nil, ErrNotOwner
	}
	key, err := crypto.MarshalPrivateKey(m.rootKey)
	if err != nil {
		return nil, err
	}
	b := backupFile{At: time.Now(), Name: m.farm.Name, Key: key, Root: []byte(m.root), Chain: m.farm.Chain}
	now := time.Now()
	for p, s := range m.members {
		if !m.knownLocked(p, now) {
			continue
		}
		f := memberFile{s.signed, addrBytes(s.addrs), s.lastSeen}
		if p == m.self {
			f.Addrs, f.LastSeen = addrBytes(here), now
		}
		b.Members = append(b.Members, f)
	}
	slices.SortFunc(b.Members, func(x, y memberFile) int { return y.LastSeen.Compare(x.LastSeen) })
	for _, r := range m.revoked {
		b.Revoked = append(b.Revoked, r.signed)
	}
	if !m.content.issued.IsZero() {
		b.Content = &m.content.signed
	}
	for {
		out, err := job.Encode(b)
		if err != nil {
			return nil, err
		}
		if len(out)+len(backupMagic) <= MaxBackupBytes {
			return append([]byte(backupMagic), out...), nil
		}
		// Some hundred members are enough: the others come to them, and tell of
		// revocations as well.
		if len(b.Members) == 0 && len(b.Revoked) == 0 {
			return nil, fmt.Errorf("backup of %d bytes, at most %d", len(out), MaxBackupBytes)
		}
		b.Members, b.Revoked = b.Members[:len(b.Members)*3/4], b.Revoked[:len(b.Revoked)*3/4]
	}
}

// Recover makes this node an owner of the farm that a backup is of. It may be a
// member of it already, or in no farm. The members of that time are remembered
// and dialled; those that came later show their certificates when they are met.
// Tickets from before are void, because which of them were used is not known.
func (m *Membership) Recover(data []byte) (Farm, error) {
	b, key, chain, id, err := openBackup(data)
	if err != nil {
		return Farm{}, err
	}
	root := peer.ID(b.Root)
	m.mu.Lock()
	in, here, owner, known := m.root != "" && !m.farm.Revoked, m.id, m.rootKey != nil, len(m.chain)
	m.mu.Unlock()
	switch {
	case in && here == id && owner:
		return Farm{}, fmt.Errorf("recover: this node is an owner of farm %q already", b.Name)
	case in && here != id:
		return Farm{}, fmt.Errorf("recover: %w: this node belongs to another one; leave that first, with: idlewild farm leave", ErrOtherFarm)
	case in:
		if _, err := m.learnSuccessions(b.Chain); err != nil {
			return Farm{}, fmt.Errorf("recover: %w", err)
		}
		if known > len(chain) {
			return Farm{}, fmt.Errorf("%w: the farm's key was replaced after it was made, at %s", ErrBackup, b.At.Local().Format(time.DateTime))
		}
	}
	now := time.Now()
	cert, err := job.Sign(key, job.ContextMember, Certificate{
		Version: 1, Farm: id, Peer: m.self.String(), Name: m.nameFor(b), Role: RoleOwner, Issued: now, Expires: now.Add(certificateLife),
	})
	if err != nil {
		return Farm{}, err
	}
	file := farmFile{Root: b.Root, Chain: b.Chain, Name: b.Name, Certificate: cert, Recovered: now.UnixMilli()}
	f, err := m.recoverAs(root, key, file, in, b)
	if err != nil {
		return Farm{}, fmt.Errorf("recover: %w", err)
	}
	m.log.Info("farm recovered", "farm", f.ID, "name", f.Name, "backup_of", b.At, "members", len(b.Members))
	for _, v := range b.Members {
		if _, err := m.learn(v.Certificate, addrsFrom(v.Addrs)); err != nil {
			m.log.Debug("member of the backup not taken", "err", err)
		}
	}
	for _, s := range b.Revoked {
		if _, err := m.applyRevocation(s); err != nil {
			m.log.Debug("revocation of the backup not taken", "err", err)
		}
	}
	m.saveFresh()
	m.host.farmReady()
	m.host.Tell()
	return f, nil
}

func openBackup(data []byte) (b backupFile, key crypto.PrivKey, chain []link, id FarmID, err error) {
	fail := func(why string) (backupFile, crypto.PrivKey, []link, FarmID, error) {
		return backupFile{}, nil, nil, "", fmt.Errorf("%w: %s", ErrBackup, why)
	}
	if len(data) > MaxBackupBytes {
		return fail("it is too long")
	}
	if len(data) < len(backupMagic) || string(data[:len(backupMagic)]) != backupMagic {
		return fail("it is something else, or of a newer version of this program")
	}
	if err := job.Decode(data[len(backupMagic):], MaxBackupBytes, &b); err != nil {
		return fail("it is damaged")
	}
	root, err := peer.IDFromBytes(b.Root)
	if err != nil {
		return fail("its root is damaged")
	}
	if key, err = crypto.UnmarshalPrivateKey(b.Key); err != nil || !root.MatchesPrivateKey(key) {
		return fail("its key is damaged")
	}
	if chain, id, err = openChain(root, b.Chain); err != nil {
		return fail(err.Error())
	}
	if checkName(b.Name) != nil {
		return fail("its name is damaged")
	}
	return b, key, chain, id, nil
}

// nameFor is how this node is called in the farm of a backup: as it was, or by
// its own name where no other member has that.
func (m *Membership) nameFor(b backupFile) string {
	taken := map[string]bool{}
	for _, v := range b.Members {
		var c Certificate
		if err := job.Decode(v.Certificate.Body, maxFarmFile, &c); err != nil {
			continue
		}
		if c.Peer == m.self.String() {
			return c.Name
		}
		taken[c.Name] = true
	}
	out := m.name
	for i := 2; taken[out]; i++ {
		out = fmt.Sprintf("%s-%d", m.name, i)
	}
	return out
}

// recoverAs writes the farm. The content key comes first: without one an owner
// makes a new one, and everything would be cut and sent anew.
func (m *Membership) recoverAs(root peer.ID, key crypto.PrivKey, file farmFile, member bool, b backupFile) (Farm, error) {
	if !member {
		if b.Content != nil {
			_, id, err := openChain(root, file.Chain)
			if err != nil {
				return Farm{}, err
			}
			dir, err := newFarmDir(m.dataDir, id)
			if err != nil {
				return Farm{}, err
			}
			if err := dir.write("content.key", contentKeyMagic, *b.Content); err != nil {
				return Farm{}, err
			}
		}
		return m.enter(root, key, file)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.dir.writeRoot(rootKeyFile, key); err != nil {
		return Farm{}, err
	}
	if err := m.dir.write("farm", farmMagic, file); err != nil {
		return Farm{}, err
	}
	m.farm, m.rootKey = file, key
	if err := m.addSelfLocked(); err != nil {
		return Farm{}, err
	}
	if err := m.loadContentKeyLocked(); err != nil {
		return Farm{}, err
	}
	m.tellLocked()
	return m.farmLocked(), nil
}
