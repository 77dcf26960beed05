package dispatch

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"idlewild/job"
)

// encodeRecord is r as it stands in a frame.
func encodeRecord(r record) ([]byte, error) {
	p := packer{b: []byte{r.sort() | packedRecord}}
	if x, ok := r.(packable); ok {
		x.put(&p)
		return p.b, nil
	}
	b, err := job.Encode(r)
	if err != nil {
		return nil, err
	}
	p.bytes(b)
	return p.b, nil
}

// packable records are encoded by hand.
type packable interface {
	record
	put(*packer)
	get(*unpacker)
}

// decodeRecord reads a frame of one record.
func decodeRecord(b []byte) (r record, err error) {
	err = decodeFrame(b, func(x record) error {
		if r != nil {
			return fmt.Errorf("more than one record")
		}
		r = x
		return nil
	})
	return r, err
}

// decodeFrame hands out the records of a frame.
func decodeFrame(b []byte, f func(record) error) error { return new(decoder).frame(b, f, newRecord) }

// decoder reads a journal; its records are valid until the next one is read.
type decoder struct {
	receipt receiptRecord
	back    returnRecord
	judge   judgeRecord
	deliver deliverRecord
	grant   grantRecord
	piece   pieceRecord
	task    taskRecord
}

func (d *decoder) record(sort byte) (record, error) {
	switch sort {
	case recReceipt:
		d.receipt = receiptRecord{}
		return &d.receipt, nil
	case recReturn:
		d.back = returnRecord{}
		return &d.back, nil
	case recJudge:
		d.judge = judgeRecord{}
		return &d.judge, nil
	case recDeliver:
		d.deliver = deliverRecord{}
		return &d.deliver, nil
	case recGrant:
		d.grant = grantRecord{}
		return &d.grant, nil
	case recPiece:
		d.piece = pieceRecord{}
		return &d.piece, nil
	case recTask:
		d.task = taskRecord{}
		return &d.task, nil
	}
	return newRecord(sort)
}

func (d *decoder) frame(b []byte, f func(record) error, newRecord func(byte) (record, error)) error {
	if len(b) == 0 {
		return fmt.Errorf("empty record")
	}
	if b[0]&packedRecord == 0 {
		r, err := newRecord(b[0])
		if err != nil {
			return err
		}
		if b[0] >= recBlock {
			return fmt.Errorf("record of unknown sort %d", b[0])
		}
		if err := job.Decode(b[1:], maxRecordBytes, r); err != nil {
			return fmt.Errorf("record of sort %d: %w", b[0], err)
		}
		return f(r)
	}
	u := unpacker{s: string(b)}
	for u.s != "" {
		sort := u.byte()
		if sort&packedRecord == 0 {
			return fmt.Errorf("record of unknown sort %d", sort)
		}
		r, err := newRecord(sort &^ packedRecord)
		if err != nil {
			return err
		}
		if x, ok := r.(packable); ok {
			x.get(&u)
		} else if err := job.Decode([]byte(u.str()), maxRecordBytes, r); err != nil && u.err == nil {
			return fmt.Errorf("record of sort %d: %w", sort&^packedRecord, err)
		}
		if u.err != nil {
			return fmt.Errorf("record of sort %d: %w", sort&^packedRecord, u.err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// unzipTasks unpacks the tasks of a record of format 1.
func unzipTasks(b []byte) ([]job.Task, error) {
	const most = tasksPerRecord * (job.MaxTaskBytes + 64<<10)
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(most))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := r.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	var tasks []job.Task
	if err := job.Decode(raw, most, &tasks); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	if len(tasks) > tasksPerRecord {
		return nil, fmt.Errorf("tasks: %d in one record", len(tasks))
	}
	return tasks, nil
}
