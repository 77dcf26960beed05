package node

import (
	"path/filepath"

	"idlewild/diffupload/store"
	"idlewild/node/localapi"
)

// storeView is localapi.Store.
type storeView struct{ *store.Local }

var _ localapi.Store = storeView{}

func (s storeView) Stat() localapi.StoreView {
	st := s.Local.Stat()
	return localapi.StoreView{Blocks: st.Blocks, Bytes: st.Bytes, DiskBytes: st.DiskBytes, QuotaBytes: st.QuotaBytes}
}

// OpenStore opens the store of a data folder that no daemon has open.
func OpenStore(cfg Config) (s localapi.Store, shut func() error, err error) {
	l, err := store.Open(filepath.Join(cfg.DataDir, "store"), store.Options{QuotaBytes: cfg.Store.QuotaBytes})
	if err != nil {
		return nil, nil, err
	}
	return storeView{l}, l.Close, nil
}
