package job

// Bounds of everything that a peer or a file can make us allocate. A message
// that exceeds one is refused whole, before memory is taken for it.
const (
	MaxTaskBytes     = 64 << 10  // one encoded Task
	MaxTasksPerLease = 256       // tasks in one Lease
	MaxOutputs       = 64        // output rules of a task, outputs of a leaf
	MaxNameBytes     = 1024      // a file name or label
	MaxReceiptBytes  = 1 << 20   // one encoded Receipt
	MaxFacts         = 512       // fact values of one machine
	MaxDevices       = 64        // devices of one machine
	MaxInlineBytes   = 256 << 10 // blocks carried inside one Report
	MaxReasonBytes   = 4 << 10   // a sentence for people
	MaxLogTailBytes  = 16 << 10  // the end of a task's log carried in a receipt
	MaxTasksPerJob   = 1 << 20   // tasks planned for one job
	MaxMemoryBytes   = 1 << 50   // of one device
	MaxItemsPerTask  = 1 << 20   // items that one task of a batch covers
)
