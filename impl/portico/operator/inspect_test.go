package operator_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/account"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
	"portico/impl/keyring"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
	"portico/impl/servertest"
)

// A finding, as it is shown.
type finding struct {
	Name, Message string
	Repairable    bool
}

// names are those of findings, the repairable ones with a plus.
func names(findings []finding) string {
	var all []string
	for _, f := range findings {
		if f.Repairable {
			f.Name += "+"
		}
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

// inspect returns the names of what is found, and all messages.
func (s operator) inspect(did syntax.DID) (found, messages string) {
	s.Helper()
	var out struct{ Findings []finding }
	s.Accepted(s.ask("inspectAccount?did="+did.String())).Decode(s, &out)
	for _, f := range out.Findings {
		messages += f.Message + "\n"
	}
	return names(out.Findings), messages
}

func (s operator) finds(did syntax.DID, want string) {
	s.Helper()
	if got, messages := s.inspect(did); got != want {
		s.Errorf("found %q, want %q\n%s", got, want, messages)
	}
}

// repairs checks what is repaired and what remains, and that a second time there is
// nothing more to repair.
func (s operator) repairs(did syntax.DID, repaired, remaining string) {
	s.Helper()
	for range 2 {
		var out struct{ Repaired, Remaining []finding }
		s.Accepted(s.do("repairAccount", `{"did":"`+did.String()+`"}`)).Decode(s, &out)
		if got := names(out.Repaired); got != repaired {
			s.Errorf("repaired %q, want %q", got, repaired)
		}
		if got := names(out.Remaining); got != remaining {
			s.Errorf("remaining %q, want %q", got, remaining)
		}
		repaired = ""
	}
}

// newDID makes a DID in the directory as a sign-up would.
func (s operator) newDID(handle syntax.Handle, key string) (syntax.DID, plc.Operation) {
	s.Helper()
	op := plc.NewGenesis([]string{servertest.DIDKey(s.Rotation)}, key, handle, servertest.Endpoint)
	s.Check(op.Sign(s.Rotation))
	return servertest.Must(plc.DID(op)), op
}

// reservation is that of an account with an own key, by a process that is gone.
func (s operator) reservation(did syntax.DID, handle syntax.Handle, email string) (db.Reservation, *atcrypto.PrivateKeyK256) {
	s.Helper()
	key := servertest.Must(keyring.NewKey(rand.Reader))
	return db.Reservation{
		Account: db.Account{DID: did, Handle: handle, Email: email, PasswordHash: "$", CreatedAt: s.Now()},
		Key: db.SigningKey{
			DID: did, Purpose: account.KeyPurpose, Public: servertest.DIDKey(key),
			Sealed: servertest.Must(s.Keys.Seal(account.KeyPurpose, did.String(), key.Bytes())),
		},
		Holder: "gone", LeaseUntil: s.Now().Add(time.Minute),
	}, key
}

// reserve begins the creation of an account.
func (s operator) reserve(did syntax.DID, handle syntax.Handle, email string) {
	s.Helper()
	r, _ := s.reservation(did, handle, email)
	s.Write(func(tx *db.Tx) error { return tx.ReserveAccount(s.Context(), r) })
}

// put makes an account that has a key but no repository.
func (s operator) put(did syntax.DID, handle syntax.Handle) *atcrypto.PrivateKeyK256 {
	s.Helper()
	r, key := s.reservation(did, handle, handle.String()+"@example.com")
	s.Write(func(tx *db.Tx) error {
		if err := tx.ReserveAccount(s.Context(), r); err != nil {
			return err
		}
		return tx.FinishAccount(s.Context(), did, "gone")
	})
	return key
}

// putRepo stores a repository of did that key signs, a second from now, with records at
// some paths.
func (s operator) putRepo(did syntax.DID, key atcrypto.PrivateKey, paths ...string) {
	s.Helper()
	first := servertest.Must(repo.Genesis(did, key, s.Now().Add(time.Second)))
	var writes []tree.Write
	var rows []db.Record
	for _, path := range paths {
		value := servertest.Must(dagcbor.Marshal(map[string]any{"text": path}))
		block := car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, value), Data: value}
		writes = append(writes, tree.Write{Action: tree.Create, Path: path, Record: block})
		rows = append(rows, db.Record{Path: path, CID: block.CID[:], Rev: "3jqfcqzm3fo2j", IndexedAt: s.Now(), Value: value})
	}
	s.Write(func(tx *db.Tx) error {
		err := errors.Join(tx.DeleteRepo(s.Context(), did), tx.DeleteNodes(s.Context(), did), tx.DeleteAllRecords(s.Context(), did),
			store.Create(s.Context(), tx, did, first))
		if err != nil || len(writes) == 0 {
			return err
		}
		_, err = store.Commit(s.Context(), tx, did, key, s.Now(), nil, writes)
		return errors.Join(err, tx.PutRecords(s.Context(), did, rows...), tx.AddCollection(s.Context(), did, "com.example.record"))
	})
}

// fill stores a repository with records that is in order.
func (s operator) fill(did syntax.DID) {
	s.Helper()
	row := servertest.Must(s.DB.SigningKey(s.Context(), did, account.KeyPurpose))
	s.putRepo(did, servertest.Must(s.Keys.SigningKey(account.KeyPurpose, did.String(), row.Sealed)), records...)
}

// records are paths of a tree of two layers: one key above four.
var records = []string{
	"com.example.record/3jqfcqzm3fo2j", "com.example.record/3jqfcqzm3fp2j", "com.example.record/3jqfcqzm3fr2j",
	"com.example.record/3jqfcqzm3fs2j", "com.example.record/3jqfcqzm4fc2j",
}

// What is found, what of it is mended, and what remains.
func TestInspectAndRepairAccount(t *testing.T) {
	handle := func(h string) func(*plc.Data) { return func(d *plc.Data) { d.SetHandle(syntax.Handle(h)) } }
	other := servertest.Must(keyring.NewKey(rand.Reader))
	otherRing := servertest.Must(keyring.New(rand.Reader, bytes.Repeat([]byte{8}, 32)))
	putKey := func(s operator, u servertest.User, change func(*db.SigningKey)) {
		key := servertest.Must(s.DB.SigningKey(s.Context(), u.DID, account.KeyPurpose))
		change(key)
		s.Write(func(tx *db.Tx) error { return tx.PutSigningKey(s.Context(), *key) })
	}
	// reset changes the row of a repository.
	reset := func(s operator, u servertest.User, change func(*db.Repo)) {
		s.Write(func(tx *db.Tx) error {
			r, err := tx.LockRepo(s.Context(), u.DID)
			if err != nil {
				return err
			}
			before := r.CommitCID
			change(r)
			return tx.UpdateRepo(s.Context(), u.DID, *r, before)
		})
	}
	filled := func(s operator, u servertest.User) { s.fill(u.DID) }
	putNode := func(s operator, u servertest.User, n db.Node) {
		s.Write(func(tx *db.Tx) error { return tx.PutNode(s.Context(), u.DID, n) })
	}
	deleteNode := func(s operator, u servertest.User, low string, layer int) {
		s.Write(func(tx *db.Tx) error { return tx.DeleteNode(s.Context(), u.DID, db.Place{Low: low, Layer: layer}) })
	}
	deleteRow := func(s operator, u servertest.User) {
		s.Write(func(tx *db.Tx) error { return tx.DeleteRepo(s.Context(), u.DID) })
	}
	deleteRecord := func(s operator, u servertest.User, path string) {
		s.Write(func(tx *db.Tx) error { return tx.DeleteRecords(s.Context(), u.DID, path) })
	}
	changeRecord := func(s operator, u servertest.User, path string, change func(*db.Record)) {
		r := servertest.Must(s.DB.Record(s.Context(), u.DID, path))
		change(r)
		s.Write(func(tx *db.Tx) error { return tx.PutRecords(s.Context(), u.DID, *r) })
	}
	putRecord := func(s operator, u servertest.User, path string) {
		value := servertest.Must(dagcbor.Marshal(map[string]any{"text": path}))
		name := dagcbor.Sum(dagcbor.CodecDAGCBOR, value)
		s.Write(func(tx *db.Tx) error {
			return tx.PutRecords(s.Context(), u.DID, db.Record{Path: path, CID: name[:], Rev: "3jqfcqzm3fo2j", IndexedAt: s.Now(), Value: value})
		})
	}
	noCommit := func(r *db.Repo) { r.CommitBlock = []byte{} }
	cut := func(r *db.Repo) { r.CommitBlock = r.CommitBlock[1:] }
	spare := db.Node{Low: "spare", CID: []byte("spare"), Data: []byte("spare")}
	tests := []struct {
		name          string
		spoil         func(s operator, u servertest.User)
		found, remain string
		says          string // in a message
	}{
		{"nothing", func(operator, servertest.User) {}, "", "", ""},
		{"deactivated", func(s operator, u servertest.User) { s.Deactivate(u.DID) }, "", "", ""},
		{"taken down", func(s operator, u servertest.User) { s.TakeDown(u.DID) }, "", "", ""},
		{"no email", func(s operator, u servertest.User) {
			s.SetAccount(u.DID, func(a *db.Account) { a.Email = "" })
		}, "email_missing", "email_missing", "no email address"},
		{"no handle", func(s operator, u servertest.User) {
			s.SetAccount(u.DID, func(a *db.Account) { a.Handle = "" })
		}, "handle_missing", "handle_missing", "no handle"},
		{"foreign handle", func(s operator, u servertest.User) {
			s.Internet.Point("foreign.example", u.DID)
			s.SetAccount(u.DID, func(a *db.Account) { a.Handle = "foreign.example" })
			s.ChangeDID(u.DID, handle("foreign.example"))
		}, "", "", ""},
		{"foreign handle, unresolved", func(s operator, u servertest.User) {
			s.SetAccount(u.DID, func(a *db.Account) { a.Handle = "unresolved.example" })
		}, "handle_unresolved did_handle", "handle_unresolved did_handle", `_atproto.unresolved.example to "did=did:plc:`},
		{"foreign handle, of somebody else", func(s operator, u servertest.User) {
			s.Internet.Point("taken.example", unknown)
			s.SetAccount(u.DID, func(a *db.Account) { a.Handle = "taken.example" })
			s.ChangeDID(u.DID, handle("taken.example"))
		}, "handle_unresolved", "handle_unresolved", "resolves to " + unknown},

		{"key of another ring", func(s operator, u servertest.User) {
			putKey(s, u, func(k *db.SigningKey) {
				k.Sealed = servertest.Must(otherRing.Seal(k.Purpose, k.DID.String(), other.Bytes()))
			})
		}, "signing_key_unreadable", "signing_key_unreadable", "PORTICO_KEY_ENCRYPTION_KEY_OLD"},
		{"damaged key", func(s operator, u servertest.User) {
			putKey(s, u, func(k *db.SigningKey) { k.Sealed[len(k.Sealed)-1] ^= 1 })
		}, "signing_key_unreadable", "signing_key_unreadable", "Restore its row"},
		{"halves of two keys", func(s operator, u servertest.User) {
			putKey(s, u, func(k *db.SigningKey) {
				k.Sealed = servertest.Must(s.Keys.Seal(k.Purpose, k.DID.String(), other.Bytes()))
			})
		}, "signing_key_mismatch", "signing_key_mismatch", "Restore its row"},
		{"unreadable key and wrong DID", func(s operator, u servertest.User) {
			putKey(s, u, func(k *db.SigningKey) { k.Sealed = []byte("nothing") })
			s.ChangeDID(u.DID, func(d *plc.Data) { d.VerificationMethods["atproto"] = servertest.DIDKey(other) })
			s.putRepo(u.DID, other)
		}, "signing_key_unreadable repo_signature did_signing_key", "signing_key_unreadable repo_signature did_signing_key",
			"as soon as the signing key is there"},

		{"commit missing", func(s operator, u servertest.User) { reset(s, u, noCommit) }, "repo_damaged+", "", "commit of the repository is missing"},
		{"commit and tree missing", func(s operator, u servertest.User) {
			reset(s, u, noCommit)
			deleteNode(s, u, "", 0)
		}, "repo_damaged+", "", "is empty"},
		{"name of the commit missing", func(s operator, u servertest.User) {
			reset(s, u, func(r *db.Repo) { r.CommitCID = []byte{} })
		}, "repo_damaged+", "", "commit of the repository is damaged"},
		{"commit damaged", func(s operator, u servertest.User) { reset(s, u, cut) }, "repo_damaged+", "", "commit of the repository is damaged"},
		{"another rev", func(s operator, u servertest.User) {
			reset(s, u, func(r *db.Repo) { r.Rev = syntax.NewTIDFromTime(s.Now().Add(time.Hour), 0).String() })
		}, "repo_damaged+", "", ""},
		{"no rev", func(s operator, u servertest.User) {
			reset(s, u, func(r *db.Repo) { r.Rev = "zzzz" })
		}, "repo_damaged+", "", ""},
		{"another count", func(s operator, u servertest.User) {
			reset(s, u, func(r *db.Repo) { r.Records++ })
		}, "repo_index+", "", "nodes and records as were counted"},
		{"another count of blobs", func(s operator, u servertest.User) {
			s.Write(func(tx *db.Tx) error {
				r, err := tx.LockRepo(s.Context(), u.DID)
				if err != nil {
					return err
				}
				r.ExpectedBlobs, r.ImportedBlobs = 3, 2
				return errors.Join(tx.DeleteRepo(s.Context(), u.DID), tx.InsertRepo(s.Context(), u.DID, *r))
			})
		}, "repo_index+", "", "blobs as were counted"},
		{"tree missing", func(s operator, u servertest.User) { deleteNode(s, u, "", 0) }, "repo_damaged+", "", "tree is missing"},
		{"tree damaged", func(s operator, u servertest.User) {
			putNode(s, u, db.Node{CID: tree.Empty.CID[:], Data: []byte("tree")})
		}, "repo_damaged+", "", "tree is missing or damaged"},
		{"spare node", func(s operator, u servertest.User) { putNode(s, u, spare) }, "repo_damaged+", "", "nodes beside"},
		{"commit missing, spare node", func(s operator, u servertest.User) {
			reset(s, u, noCommit)
			putNode(s, u, spare)
		}, "repo_damaged", "repo_damaged", "Restore the account"},
		{"row missing, spare node", func(s operator, u servertest.User) {
			deleteRow(s, u)
			putNode(s, u, spare)
		}, "repo_missing", "repo_missing", "Restore the account"},
		{"another's signature", func(s operator, u servertest.User) { s.putRepo(u.DID, other) }, "repo_signature+", "", "not signed"},

		{"with records", filled, "", "", ""},
		{"another's signature, with records", func(s operator, u servertest.User) { s.putRepo(u.DID, other, records...) },
			"repo_signature+", "", "Its tree is whole"},
		{"commit missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			reset(s, u, noCommit)
		}, "repo_damaged+", "", "Its tree is whole"},
		{"row missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			deleteRow(s, u)
		}, "repo_missing+", "", "Its tree is whole"},
		{"another count, with records", func(s operator, u servertest.User) {
			filled(s, u)
			reset(s, u, func(r *db.Repo) { r.Nodes, r.Records = 1, 0 })
		}, "repo_index+", "", "as were counted"},
		{"spare node, with records", func(s operator, u servertest.User) {
			filled(s, u)
			putNode(s, u, spare)
		}, "repo_damaged+", "", "nodes beside"},
		{"commit missing and a spare node, with records", func(s operator, u servertest.User) {
			filled(s, u)
			reset(s, u, noCommit)
			putNode(s, u, spare)
		}, "repo_damaged", "repo_damaged", "Restore the account"},
		{"node missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			deleteNode(s, u, records[3], 0)
		}, "repo_damaged+", "", "tree is missing or damaged. Its records make the same tree"},
		{"all nodes missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			s.Write(func(tx *db.Tx) error { return tx.DeleteNodes(s.Context(), u.DID) })
		}, "repo_damaged+", "", "tree is missing or damaged. Its records make the same tree"},
		{"a node in the wrong place, with records", func(s operator, u servertest.User) {
			filled(s, u)
			n := servertest.Must(s.DB.Node(s.Context(), u.DID, db.Place{Low: records[3]}))
			deleteNode(s, u, records[3], 0)
			n.Low = records[1]
			putNode(s, u, *n)
		}, "repo_damaged+", "", "Its records make the same tree"},
		{"node and another's signature, with records", func(s operator, u servertest.User) {
			s.putRepo(u.DID, other, records...)
			deleteNode(s, u, records[3], 0)
		}, "repo_damaged+", "", "Its records make the same tree"},
		{"node and a record missing", func(s operator, u servertest.User) {
			filled(s, u)
			deleteNode(s, u, records[3], 0)
			deleteRecord(s, u, records[4])
		}, "repo_damaged", "repo_damaged", "tree is missing or damaged. Restore the account"},
		{"node damaged, with records", func(s operator, u servertest.User) {
			filled(s, u)
			n := servertest.Must(s.DB.Node(s.Context(), u.DID, db.Place{}))
			n.Data[len(n.Data)-1] ^= 1
			putNode(s, u, *n)
		}, "repo_damaged+", "", "tree is missing or damaged. Its records make the same tree"},

		{"record missing", func(s operator, u servertest.User) {
			filled(s, u)
			deleteRecord(s, u, records[1])
		}, "repo_records", "repo_records", "The record " + records[1] + " is missing or damaged. Restore the account"},
		{"records missing and damaged", func(s operator, u servertest.User) {
			filled(s, u)
			deleteRecord(s, u, records[4])
			changeRecord(s, u, records[2], func(r *db.Record) { r.Value[len(r.Value)-1] ^= 1 })
		}, "repo_records", "repo_records", "2 records are missing or damaged, the first of them " + records[2]},
		{"another record", func(s operator, u servertest.User) {
			filled(s, u)
			changeRecord(s, u, records[2], func(r *db.Record) {
				r.Value = servertest.Must(dagcbor.Marshal(map[string]any{"text": "other"}))
				name := dagcbor.Sum(dagcbor.CodecDAGCBOR, r.Value)
				r.CID = name[:]
			})
		}, "repo_records", "repo_records", "The record " + records[2] + " is missing or damaged"},
		{"record missing and another's signature", func(s operator, u servertest.User) {
			s.putRepo(u.DID, other, records...)
			deleteRecord(s, u, records[1])
		}, "repo_signature+ repo_records", "repo_records", "Its tree is whole"},
		{"spare record", func(s operator, u servertest.User) {
			filled(s, u)
			putRecord(s, u, "com.example.other/3jqfcqzm3fo2j")
		}, "repo_index+", "", "Records are stored that the repository's tree does not have: 1."},
		{"spare record and commit missing", func(s operator, u servertest.User) {
			filled(s, u)
			putRecord(s, u, "com.example.other/3jqfcqzm3fo2j")
			reset(s, u, noCommit)
		}, "repo_damaged", "repo_damaged", "Restore the account"},
		{"spare records in an empty repository", func(s operator, u servertest.User) {
			putRecord(s, u, "com.example.other/3jqfcqzm3fo2j")
			deleteNode(s, u, "", 0)
		}, "repo_damaged", "repo_damaged", "Restore the account"},
		{"record that points elsewhere", func(s operator, u servertest.User) {
			filled(s, u)
			changeRecord(s, u, records[2], func(r *db.Record) { r.LinkTo = unknown })
		}, "repo_index+", "", "is noted otherwise than they say: of 1."},
		{"blobs that no record names", func(s operator, u servertest.User) {
			filled(s, u)
			s.Write(func(tx *db.Tx) error {
				return tx.SetRecordIndex(s.Context(), u.DID, records[2], "", bytes.Repeat([]byte{1}, 36))
			})
		}, "repo_index+", "", "is noted otherwise than they say: of 1."},
		{"blobs of a record that is not there", func(s operator, u servertest.User) {
			filled(s, u)
			s.Write(func(tx *db.Tx) error {
				return tx.SetRecordIndex(s.Context(), u.DID, records[2], "", bytes.Repeat([]byte{1}, 36))
			})
			deleteRecord(s, u, records[2])
		}, "repo_records repo_index+", "repo_records", "is noted otherwise than they say: of 1."},
		{"list of collections", func(s operator, u servertest.User) {
			filled(s, u)
			s.Write(func(tx *db.Tx) error {
				return errors.Join(tx.DeleteCollections(s.Context(), u.DID), tx.AddCollection(s.Context(), u.DID, "com.example.gone"))
			})
		}, "repo_index+", "", "list of the repository's collections is wrong"},
		{"commit and root missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			reset(s, u, noCommit)
			deleteNode(s, u, "", 1)
		}, "repo_damaged", "repo_damaged", "Restore the account"},
		{"row and a node missing, with records", func(s operator, u servertest.User) {
			filled(s, u)
			deleteRow(s, u)
			deleteNode(s, u, "", 0)
		}, "repo_missing", "repo_missing", "Restore the account"},

		{"tombstone", func(s operator, u servertest.User) { s.Tombstone(u.DID) }, "did_tombstoned", "did_tombstoned", "tombstone"},
		{"another server", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) {
				d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://elsewhere.example"}
				d.VerificationMethods["atproto"] = servertest.DIDKey(other)
				d.SetHandle("elsewhere.example")
			})
		}, "did_endpoint", "did_endpoint", "https://elsewhere.example as the server"},
		{"no server", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.Services = nil })
		}, "did_endpoint", "did_endpoint", "names no server"},
		{"no rotation key of ours", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.RotationKeys = []string{servertest.DIDKey(other)} })
		}, "did_rotation_key", "did_rotation_key", "cannot change the DID"},
		{"nothing of ours but the server", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) {
				d.RotationKeys = []string{servertest.DIDKey(other)}
				d.VerificationMethods["atproto"] = servertest.DIDKey(other)
				d.SetHandle("else.test")
			})
		}, "did_rotation_key did_signing_key did_handle", "did_rotation_key did_signing_key did_handle", ""},
		{"a recovery key too", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.RotationKeys = append([]string{servertest.DIDKey(other)}, d.RotationKeys...) })
		}, "", "", ""},
		{"another signing key", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.VerificationMethods["atproto"] = servertest.DIDKey(other) })
		}, "did_signing_key+", "", servertest.DIDKey(other)},
		{"no signing key", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.VerificationMethods = nil })
		}, "did_signing_key+", "", "names nothing"},
		{"another handle", func(s operator, u servertest.User) { s.ChangeDID(u.DID, handle("else.test")) }, "did_handle+", "", "else.test"},
		{"another handle, taken down", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, handle("else.test"))
			s.TakeDown(u.DID)
		}, "did_handle+", "", "else.test"},
		{"no handle in the DID", func(s operator, u servertest.User) {
			s.ChangeDID(u.DID, func(d *plc.Data) { d.AlsoKnownAs = nil })
		}, "did_handle+", "", "names nothing"},
		{"all at once", func(s operator, u servertest.User) {
			s.SetAccount(u.DID, func(a *db.Account) { a.Email = "" })
			s.putRepo(u.DID, other)
			s.ChangeDID(u.DID, func(d *plc.Data) {
				d.VerificationMethods["atproto"] = servertest.DIDKey(other)
				d.SetHandle("else.test")
			})
		}, "email_missing repo_signature+ did_signing_key+ did_handle+", "email_missing", ""},
	}
	engines(t, func(t *testing.T, s operator) {
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s := operator{new(*s.Server)}
				s.TB = t
				u := s.SignUp(fmt.Sprint("user", n))
				tt.spoil(s, u)
				events := servertest.Must(s.DB.LastEvent(t.Context()))
				s.finds(u.DID, tt.found)
				if _, messages := s.inspect(u.DID); !strings.Contains(messages, tt.says) {
					t.Errorf("messages do not say %q:\n%s", tt.says, messages)
				}
				if now := servertest.Must(s.DB.LastEvent(t.Context())); now != events {
					t.Error("an inspection told the network something")
				}
				var repaired []string
				for name := range strings.FieldsSeq(tt.found) {
					if name, ok := strings.CutSuffix(name, "+"); ok {
						repaired = append(repaired, name)
					}
				}
				plus := func(suffix string) (all string) {
					for _, name := range repaired {
						all += name + suffix
					}
					return strings.TrimSpace(all)
				}
				s.repairs(u.DID, plus("+ "), tt.remain)
				s.finds(u.DID, tt.remain)
				for _, name := range repaired {
					if line := "repaired by admin from 127.0.0.1: " + name + "\n"; strings.Count(s.Recorded(u.DID), line) != 1 {
						t.Errorf("the record has not once %q:\n%s", line, s.Recorded(u.DID))
					}
				}
				if len(repaired) == 0 && strings.Contains(s.Recorded(u.DID), "repaired") {
					t.Errorf("record of what was not done:\n%s", s.Recorded(u.DID))
				}
			})
		}
		s.Refused(s.ask("inspectAccount?did="+unknown), 400, "AccountNotFound", "Account not found")
		s.Refused(s.do("repairAccount", `{"did":"`+unknown+`"}`), 400, "AccountNotFound", "Account not found")
	})
}

// A repaired repository is one that others can follow.
func TestRepairedRepository(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		for _, tt := range []struct {
			name       string
			deactivate bool
			records    []string
			events     string
		}{{"anna", false, nil, "#sync"}, {"berta", true, nil, ""}, {"carla", false, records, "#sync"}} {
			u := s.SignUp(tt.name)
			if tt.deactivate {
				s.Deactivate(u.DID)
			}
			before := servertest.Must(s.DB.Repo(t.Context(), u.DID))
			s.putRepo(u.DID, servertest.Must(keyring.NewKey(rand.Reader)), tt.records...)
			damaged := servertest.Must(s.DB.Repo(t.Context(), u.DID))
			last := servertest.Must(s.DB.LastEvent(t.Context()))
			s.repairs(u.DID, "repo_signature+", "")
			after := servertest.Must(s.DB.Repo(t.Context(), u.DID))
			commit := servertest.Must(repo.ParseCommit(after.CommitBlock))
			key := servertest.Must(atcrypto.ParsePublicDIDKey(s.SigningKey(u.DID)))
			if err := commit.Verify(key); err != nil || commit.CID != store.CID(after.CommitCID) || commit.Data != store.CID(damaged.DataCID) ||
				after.Rev <= damaged.Rev || after.Records != len(tt.records) || after.Nodes != damaged.Nodes || bytes.Equal(before.CommitCID, after.CommitCID) {
				t.Errorf("%v; before %v, damaged %v, after %v", err, before, damaged, after)
			}
			var heard []string
			for _, e := range servertest.Must(s.DB.Events(t.Context(), last, 10)) {
				heard = append(heard, e.Kind)
			}
			if got := strings.Join(heard, " "); got != tt.events {
				t.Errorf("the network heard %q, want %q", got, tt.events)
			}
		}
	})
}

// A tree that is made anew from its records is the one that was signed, so nobody is told.
// What is mended in many steps is all mended.
func TestRebuiltTree(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("anna")
		var paths []string
		for n := range 1200 {
			paths = append(paths, fmt.Sprintf("com.example.record/%d", n))
		}
		key := servertest.Must(s.DB.SigningKey(t.Context(), u.DID, account.KeyPurpose))
		s.putRepo(u.DID, servertest.Must(s.Keys.SigningKey(account.KeyPurpose, u.DID.String(), key.Sealed)), paths...)
		s.finds(u.DID, "")
		row := servertest.Must(s.DB.Repo(t.Context(), u.DID))
		nodes := servertest.Must(s.DB.Nodes(t.Context(), u.DID, nil, 10_000))
		last := servertest.Must(s.DB.LastEvent(t.Context()))
		s.Write(func(tx *db.Tx) error {
			var spare []db.Record
			for n := range 700 {
				name := dagcbor.Sum(dagcbor.CodecDAGCBOR, nil)
				spare = append(spare, db.Record{Path: fmt.Sprintf("com.example.spare/%d", n), CID: name[:], IndexedAt: s.Now(), Value: []byte{}})
			}
			for _, path := range paths[100:900] {
				if err := tx.SetRecordIndex(t.Context(), u.DID, path, unknown, bytes.Repeat([]byte{1}, 36)); err != nil {
					return err
				}
			}
			return tx.PutRecords(t.Context(), u.DID, spare...)
		})
		s.repairs(u.DID, "repo_index+", "")
		s.Write(func(tx *db.Tx) error { return tx.DeleteNodes(t.Context(), u.DID) })
		s.repairs(u.DID, "repo_damaged+", "")
		again := servertest.Must(s.DB.Nodes(t.Context(), u.DID, nil, 10_000))
		if diff := cmp.Diff(nodes, again, cmpopts.IgnoreFields(db.Node{}, "Rev")); diff != "" {
			t.Errorf("nodes (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(row, servertest.Must(s.DB.Repo(t.Context(), u.DID))); diff != "" {
			t.Errorf("repository (-before +after):\n%s", diff)
		}
		if now := servertest.Must(s.DB.LastEvent(t.Context())); now != last {
			t.Error("the network was told something")
		}
	})
}

// Rows that are missing altogether, and a DID that the directory does not know.
func TestRepairOfAnAccountWithoutARepository(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		key := servertest.Must(keyring.NewKey(rand.Reader))
		did, op := s.newDID("bare.test", servertest.DIDKey(key))
		s.put(did, "bare.test")
		s.finds(did, "repo_missing+ did_not_found")
		s.Check(s.PLC.Submit(t.Context(), did, op))
		s.finds(did, "repo_missing+ did_signing_key+")
		s.repairs(did, "repo_missing+ did_signing_key+", "")
	})
}

func TestInspectAccountWithoutSigningKey(t *testing.T) {
	dir := t.TempDir()
	clock := servertest.NewClock()
	store, err := db.Open(t.Context(), db.Config{Dir: dir, Now: clock.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := newOperator(t, func(o *servertest.Options) { o.DB, o.Clock = store, clock })
	u := s.SignUp("alice")
	raw := servertest.Must(sql.Open("sqlite", filepath.Join(dir, "portico.sqlite")))
	defer raw.Close()
	for _, tt := range []struct{ table, found, repaired, remain string }{
		{"repo", "repo_missing+", "repo_missing+", ""},
		{"node", "repo_damaged+", "repo_damaged+", ""},
		{"signing_key", "signing_key_missing", "", "signing_key_missing"},
		{"repo", "signing_key_missing repo_missing", "", "signing_key_missing repo_missing"},
	} {
		if _, err := raw.ExecContext(t.Context(), "DELETE FROM "+tt.table); err != nil {
			t.Fatal(err)
		}
		s.finds(u.DID, tt.found)
		s.repairs(u.DID, tt.repaired, tt.remain)
	}
}

func TestInspectAccountWithoutDirectory(t *testing.T) {
	s := newOperator(t)
	u := s.SignUp("alice")
	s.ChangeDID(u.DID, func(d *plc.Data) { d.SetHandle("else.test") })
	s.putRepo(u.DID, servertest.Must(keyring.NewKey(rand.Reader)))
	for _, fault := range []servertest.Fault{
		servertest.HangsUp,
		servertest.Says("", 503, ""),
		servertest.Says("", 404, ""), // from something in between
		servertest.Says("", 200, "{}"),
	} {
		s.PLC.Spoil(fault)
		s.finds(u.DID, "repo_signature+ did_unreachable")
	}
	s.repairs(u.DID, "repo_signature+", "did_unreachable") // what can be mended without it is
	// An answer that is none leaves open what the directory did.
	s.PLC.Spoil(servertest.Says(http.MethodPost, 500, ""))
	s.repairs(u.DID, "", "handle_change_unsettled+")
	s.PLC.Spoil(servertest.Says(http.MethodPost, 400, `{"message":"no"}`))
	s.repairs(u.DID, "handle_change_unsettled+", "did_handle+")
	s.PLC.Spoil(nil)
	if h := s.Account(u.DID).Handle; h != "alice.test" {
		t.Errorf("handle %s", h)
	}
	s.Advance(2 * time.Minute)
	s.repairs(u.DID, "did_handle+", "")
}

func TestRepairOfAnUnfinishedCreation(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		made := func(name string) (syntax.DID, plc.Operation) {
			r, key := s.reservation("", syntax.Handle(name+".test"), name+"@example.com")
			did, op := s.newDID(r.Account.Handle, servertest.DIDKey(key))
			r.Account.DID, r.Key.DID = did, did
			r.Key.Sealed = servertest.Must(s.Keys.Seal(account.KeyPurpose, did.String(), key.Bytes()))
			r.Genesis = servertest.Must(json.Marshal(op))
			s.Write(func(tx *db.Tx) error { return tx.ReserveAccount(t.Context(), r) })
			return did, op
		}
		known, op := made("known")
		unheard, _ := made("unheard")
		s.Check(s.PLC.Submit(t.Context(), known, op))
		// Somebody works on them.
		s.finds(known, "creation_unfinished")
		s.repairs(known, "", "creation_unfinished")
		s.Advance(time.Minute)
		s.finds(known, "creation_unfinished+")
		s.PLC.Spoil(servertest.HangsUp)
		var out struct{ Repaired, Remaining []finding }
		s.Accepted(s.do("repairAccount", `{"did":"`+known.String()+`"}`)).Decode(t, &out)
		if names(out.Repaired) != "" || !strings.HasPrefix(names(out.Remaining), "creation_unfinished") {
			t.Errorf("without the directory: %+v", out)
		}
		s.PLC.Spoil(nil)
		s.Advance(10 * time.Minute)
		s.repairs(known, "creation_unfinished+", "")
		if a := s.account("known.test").Fields(t); a["status"] != "active" {
			t.Errorf("account %v", a)
		}
		// One that the directory has not heard of is given up: its names are free.
		s.Accepted(s.do("repairAccount", `{"did":"`+unheard.String()+`"}`)).Decode(t, &out)
		if names(out.Repaired) != "creation_unfinished+" || len(out.Remaining) != 0 {
			t.Errorf("given up: %+v", out)
		}
		s.Refused(s.account("unheard.test"), 400, "AccountNotFound", "Account not found")
		s.SignUp("unheard")
		for _, did := range []syntax.DID{known, unheard} {
			if got := s.Recorded(did); !strings.HasPrefix(got, "12:11:00 repaired by admin from 127.0.0.1: creation_unfinished\n") {
				t.Errorf("record %q", got)
			}
		}
	})
}

func TestRepairOfAnUnsettledChangeOfHandle(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("alice")
		update := func(handle string, want int) {
			t.Helper()
			if a := s.do("com.atproto.admin.updateAccountHandle", `{"did":"`+u.DID.String()+`","handle":"`+handle+`"}`); a.Status != want {
				t.Fatalf("answer %d %s", a.Status, a.Body)
			}
		}
		s.PLC.Spoil(servertest.Says(http.MethodPost, 500, ""))
		update("anew.test", 502)
		s.finds(u.DID, "handle_change_unsettled+")
		s.repairs(u.DID, "", "handle_change_unsettled+")
		s.PLC.Spoil(nil)
		s.repairs(u.DID, "handle_change_unsettled+", "")
		if h := servertest.Must(s.PLC.Data(t.Context(), u.DID)).Handle(); h != "anew.test" || s.Account(u.DID).Handle != "anew.test" {
			t.Errorf("handle %s", h)
		}
		// One that the directory turns out to refuse is taken back.
		s.PLC.Spoil(servertest.Says(http.MethodPost, 500, ""))
		update("other.test", 502)
		s.PLC.Spoil(nil)
		s.Tombstone(u.DID)
		s.repairs(u.DID, "handle_change_unsettled+", "did_tombstoned")
		if h := s.Account(u.DID).Handle; h != "anew.test" {
			t.Errorf("handle %s", h)
		}
		// Nobody touches what somebody works on.
		s.Write(func(tx *db.Tx) error {
			return tx.PutHandleChange(t.Context(), db.HandleChange{DID: u.DID, Before: "x.test", Holder: "other", LeaseUntil: s.Now().Add(time.Minute)})
		})
		s.repairs(u.DID, "", "handle_change_unsettled did_tombstoned")
	})
}

// A did:web is its owner's, who is told what to write.
func TestInspectAccountOfDIDWeb(t *testing.T) {
	s := newOperator(t)
	const did = "did:web:alice.example"
	s.Internet.Point("alice.example", did)
	key := s.put(did, "alice.example")
	s.repairs(did, "repo_missing+", "did_not_found")
	multibase := strings.TrimPrefix(servertest.DIDKey(key), "did:key:")
	document := func(handle, multibase, endpoint string) []byte {
		return fmt.Appendf(nil, `{"id":%q,"alsoKnownAs":["at://%s"],
			"verificationMethod":[{"id":"%s#atproto","type":"Multikey","controller":%q,"publicKeyMultibase":%q}],
			"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":%q}]}`,
			did, handle, did, did, multibase, endpoint)
	}
	other := strings.TrimPrefix(servertest.DIDKey(servertest.Must(keyring.NewKey(rand.Reader))), "did:key:")
	for _, tt := range []struct {
		document    []byte
		found, says string
	}{
		{document("alice.example", multibase, servertest.Endpoint), "", ""},
		{document("alice.example", multibase, "https://elsewhere.example"), "did_endpoint",
			`"service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.test"}]`},
		{document("alice.example", other, servertest.Endpoint), "did_signing_key", `"publicKeyMultibase": "` + multibase + `"`},
		{document("bob.example", other, servertest.Endpoint), "did_signing_key did_handle", `"alsoKnownAs": ["at://alice.example"]`},
		{[]byte(`{"id":"` + did + `"}`), "did_endpoint", "names no server"},
	} {
		s.PublishJSON(did, tt.document)
		s.repairs(did, "", tt.found)
		if _, messages := s.inspect(did); !strings.Contains(messages, tt.says) {
			t.Errorf("messages do not say %q:\n%s", tt.says, messages)
		}
	}
	s.Internet.Unpublish(did)
	s.finds(did, "did_not_found")
	for failure, found := range map[error]string{resolve.ErrDocument: "did_document", errors.New("no route to host"): "did_unreachable"} {
		s.Internet.Fetch = func(context.Context, syntax.DID) (*resolve.Document, error) { return nil, failure }
		s.finds(did, found)
	}
}

// What the owner changes while somebody repairs is not undone.
func TestRepairDoesNotUndoAChangeOfHandle(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("alice")
		s.ChangeDID(u.DID, func(d *plc.Data) { d.SetHandle("else.test") })
		var begun atomic.Bool
		s.PLC.Spoil(func(http.ResponseWriter, *http.Request) bool {
			// The account has been read, its DID not yet.
			if begun.Swap(true) {
				return false
			}
			a, err := s.Try(http.MethodPost, "com.atproto.identity.updateHandle", `{"handle":"anna.test"}`, u.Access)
			if err != nil || a.Status != 200 {
				t.Errorf("update %d %s, %v", a.Status, a.Body, err)
			}
			return false
		})
		s.Accepted(s.do("repairAccount", `{"did":"`+u.DID.String()+`"}`))
		s.PLC.Spoil(nil)
		s.finds(u.DID, "")
		if h := s.Account(u.DID).Handle; h != "anna.test" {
			t.Errorf("handle %s", h)
		}
	})
}

// A DID that moves to another server while somebody repairs the account is left alone,
// be it that this server's key could still change it.
func TestRepairLeavesWhoMovesAway(t *testing.T) {
	for _, wrong := range []struct {
		name   string
		change func(*plc.Data)
	}{
		{"handle", func(d *plc.Data) { d.SetHandle("else.test") }},
		{"signing key", func(d *plc.Data) {
			d.VerificationMethods["atproto"] = servertest.DIDKey(servertest.Must(keyring.NewKey(rand.Reader)))
		}},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			s := newOperator(t)
			u := s.SignUp("alice")
			s.ChangeDID(u.DID, wrong.change)
			var asked atomic.Int32
			s.PLC.Spoil(func(http.ResponseWriter, *http.Request) bool {
				if asked.Add(1) == 2 { // the inspection is over
					s.ChangeDID(u.DID, func(d *plc.Data) {
						d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://else.example"}
					})
				}
				return false
			})
			s.PLC.Asked()
			s.repairs(u.DID, "", account.DIDEndpoint)
			for _, asked := range s.PLC.Asked() {
				if strings.HasPrefix(asked, "POST") {
					t.Error("an operation was posted")
				}
			}
			if h := s.Account(u.DID).Handle; h != "alice.test" {
				t.Errorf("handle %s", h)
			}
		})
	}
}

// Whatever races, in the end account and DID say the same.
func TestRepairsAndChangesRace(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("alice")
		s.ChangeDID(u.DID, func(d *plc.Data) {
			d.SetHandle("else.test")
			d.VerificationMethods["atproto"] = servertest.DIDKey(servertest.Must(keyring.NewKey(rand.Reader)))
		})
		s.putRepo(u.DID, servertest.Must(keyring.NewKey(rand.Reader)))
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				method, body, who := "repairAccount", `{"did":"`+u.DID.String()+`"}`, servertest.Admin
				if n%2 == 0 {
					method, body, who = "com.atproto.identity.updateHandle", fmt.Sprintf(`{"handle":"name%d.test"}`, n), u.Access
				}
				a, err := s.Try(http.MethodPost, method, body, who)
				if err != nil || a.Status != 200 && (a.Status != 400 || n%2 == 1) {
					t.Errorf("%s: %d %s, %v", method, a.Status, a.Body, err)
				}
			})
		}
		all.Wait()
		s.Advance(time.Hour)
		s.Accepted(s.do("repairAccount", `{"did":"`+u.DID.String()+`"}`))
		s.finds(u.DID, "")
	})
}

// Another signing key leaves nothing to repair.
func TestInspectAccountAfterAChangeOfTheSigningKey(t *testing.T) {
	s := newOperator(t)
	for _, tt := range []struct {
		name string
		fill func(did syntax.DID)
	}{
		{"alice", func(syntax.DID) {}},
		{"berta", s.fill}, // with records
	} {
		u := s.SignUp(tt.name)
		tt.fill(u.DID)
		before := servertest.Must(s.DB.Repo(t.Context(), u.DID))
		key := s.Accepted(s.Post("com.atproto.server.reserveSigningKey", `{}`)).Text(t, "signingKey")
		s.Empty(s.do("com.atproto.admin.updateAccountSigningKey", `{"did":"`+u.DID.String()+`","signingKey":"`+key+`"}`))
		if s.SigningKey(u.DID) != key {
			t.Errorf("key %s, want %s", s.SigningKey(u.DID), key)
		}
		s.finds(u.DID, "")
		after := servertest.Must(s.DB.Repo(t.Context(), u.DID))
		if after.Rev <= before.Rev || bytes.Equal(after.CommitCID, before.CommitCID) || !bytes.Equal(after.DataCID, before.DataCID) {
			t.Errorf("repository %+v, before %+v", after, before)
		}
	}
}

// The lexicon knows the names of all findings.
func TestNamesOfFindings(t *testing.T) {
	for found, known := range map[string]string{
		account.CreationUnfinished:    api.FindingNameCreationUnfinished,
		account.HandleChangeUnsettled: api.FindingNameHandleChangeUnsettled,
		account.EmailMissing:          api.FindingNameEmailMissing,
		account.HandleMissing:         api.FindingNameHandleMissing,
		account.HandleUnresolved:      api.FindingNameHandleUnresolved,
		account.SigningKeyMissing:     api.FindingNameSigningKeyMissing,
		account.SigningKeyUnreadable:  api.FindingNameSigningKeyUnreadable,
		account.SigningKeyMismatch:    api.FindingNameSigningKeyMismatch,
		account.RepoMissing:           api.FindingNameRepoMissing,
		account.RepoDamaged:           api.FindingNameRepoDamaged,
		account.RepoSignature:         api.FindingNameRepoSignature,
		account.DIDUnreachable:        api.FindingNameDIDUnreachable,
		account.DIDNotFound:           api.FindingNameDIDNotFound,
		account.DIDTombstoned:         api.FindingNameDIDTombstoned,
		account.DIDDocument:           api.FindingNameDIDDocument,
		account.DIDEndpoint:           api.FindingNameDIDEndpoint,
		account.DIDRotationKey:        api.FindingNameDIDRotationKey,
		account.DIDSigningKey:         api.FindingNameDIDSigningKey,
		account.DIDHandle:             api.FindingNameDIDHandle,
	} {
		if found != known {
			t.Errorf("the lexicon has %q for %q", known, found)
		}
	}
}

// A verification says of a repository what an inspection says of it, and how much there
// is; nobody else is asked.
func TestVerifyRepo(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		u := s.SignUp("anna")
		s.fill(u.DID)
		s.ChangeDID(u.DID, func(d *plc.Data) { d.SetHandle("else.test") })
		row := servertest.Must(s.DB.Repo(t.Context(), u.DID))
		verified := func() (out struct {
			Commit, Rev    string
			Nodes, Records int
			Findings       []finding
		}) {
			s.Accepted(s.ask("verifyRepo?did="+u.DID.String())).Decode(s, &out)
			return out
		}
		got := verified()
		if got.Commit != store.CID(row.CommitCID).String() || got.Rev != row.Rev || got.Nodes != row.Nodes || got.Records != 5 || len(got.Findings) != 0 {
			t.Errorf("verified %+v, stored %+v", got, row)
		}
		s.Write(func(tx *db.Tx) error {
			return errors.Join(tx.DeleteRecords(t.Context(), u.DID, records[0]), tx.DeleteRepo(t.Context(), u.DID))
		})
		got = verified()
		if got.Commit != "" || got.Rev != "" || got.Records != 5 || names(got.Findings) != "repo_missing+ repo_records" {
			t.Errorf("of a damaged one: %+v", got)
		}
		s.reserve(unknown, "frida.test", "frida@example.com")
		for _, did := range []string{unknown, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"} {
			s.Refused(s.ask("verifyRepo?did="+did), 400, "AccountNotFound", "Account not found")
		}
	})
}
