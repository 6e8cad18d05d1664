module tlogcheck

go 1.23.0

// Go's own code, as the go command has it built in to verify sum.golang.org: tlog.sh puts it there.
require golang.org/x/mod v0.0.0

replace golang.org/x/mod => ./x-mod
