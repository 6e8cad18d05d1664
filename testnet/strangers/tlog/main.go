// Reads a node's published log as Go reads sum.golang.org, with Go's own code for notes and tiles.
//
//	tlogcheck log URL CARD.json...      the signed checkpoint, every leaf by its proof, and how the log grew from each older block
//	tlogcheck note FILE N CARD.json...  a note with N signatures that verify, by keys of the cards
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// C2SP tlog-tiles: tiles of 2^8 hashes.
const height = 8

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The public keys on the organizations' cards.
func verifiers(cards []string) note.Verifiers {
	var all []note.Verifier
	for _, name := range cards {
		var card struct {
			ID            string `json:"id"`
			ChainID       string `json:"chain_id"`
			CheckpointKey string `json:"checkpoint_key"`
		}
		text, err := os.ReadFile(name)
		check(err)
		check(json.Unmarshal(text, &card))
		key, err := hex.DecodeString(card.CheckpointKey)
		check(err)
		vkey, err := note.NewEd25519VerifierKey(card.ID+"."+card.ChainID, key)
		check(err)
		verifier, err := note.NewVerifier(vkey)
		check(err)
		all = append(all, verifier)
	}
	return note.VerifierList(all...)
}

func open(text []byte, known note.Verifiers) (*note.Note, tlog.Tree) {
	opened, err := note.Open(text, known)
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "assent/") {
		check(fmt.Errorf("no checkpoint: %q", opened.Text))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	return opened, tlog.Tree{N: size, Hash: tlog.Hash(hash)}
}

type site string

func (s site) get(path string) ([]byte, error) {
	answer, err := http.Get(string(s) + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func (s site) Height() int { return height }

func (s site) SaveTiles([]tlog.Tile, [][]byte) {}

// C2SP leaves the height out of the path.
func path(tile tlog.Tile) string {
	return strings.Replace(strings.Replace(tile.Path(), "tile/8/", "tile/", 1), "tile/data/", "tile/entries/", 1)
}

func (s site) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		bytes, err := s.get(path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

// Every leaf's data, and the sizes at which a block ends: behind a header.
func (s site) leaves(size int64) (leaves [][]byte, ends []int64) {
	for n := int64(0); n*256 < size; n++ {
		bundle, err := s.get(path(tlog.Tile{H: height, L: -1, N: n, W: int(min(256, size-n*256))}))
		check(err)
		for len(bundle) > 0 {
			length := int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, bundle[2:2+length])
			bundle = bundle[2+length:]
			if leaves[len(leaves)-1][0] == 2 {
				ends = append(ends, int64(len(leaves)))
			}
		}
	}
	return leaves, ends
}

func readLog(s site, known note.Verifiers) {
	text, err := s.get("checkpoint")
	check(err)
	opened, tree := open(text, known)
	reader := tlog.TileHashReader(tree, s)
	leaves, ends := s.leaves(tree.N)
	if int64(len(leaves)) != tree.N || len(ends) == 0 || ends[len(ends)-1] != tree.N {
		check(fmt.Errorf("%d leaves, blocks that end at %v, in a log of %d", len(leaves), ends, tree.N))
	}
	for n, leaf := range leaves {
		proof, err := tlog.ProveRecord(tree.N, int64(n), reader)
		check(err)
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, int64(n), tlog.RecordHash(leaf)))
		if tlog.CheckRecord(proof, tree.N, tree.Hash, int64(n), tlog.RecordHash(leaf[1:])) == nil {
			check(fmt.Errorf("leaf %d holds with other bytes", n))
		}
	}
	for _, end := range ends {
		text, err := s.get(fmt.Sprintf("checkpoint/%d", end))
		check(err)
		_, older := open(text, known)
		proof, err := tlog.ProveTree(tree.N, older.N, reader)
		check(err)
		check(tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash))
	}
	fmt.Printf("%s holds: every leaf, every older checkpoint\n", opened.Sigs[0].Name)
}

func main() {
	switch os.Args[1] {
	case "log":
		readLog(site(os.Args[2]), verifiers(os.Args[3:]))
	case "note":
		text, err := os.ReadFile(os.Args[2])
		check(err)
		opened, _ := open(text, verifiers(os.Args[4:]))
		if strconv.Itoa(len(opened.Sigs)) != os.Args[3] {
			check(fmt.Errorf("%d signatures verify, not %s", len(opened.Sigs), os.Args[3]))
		}
		fmt.Printf("%d signatures verify, %d are by others\n", len(opened.Sigs), len(opened.UnverifiedSigs))
	default:
		os.Exit(2)
	}
}
