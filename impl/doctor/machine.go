package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// Folder is one that the server keeps something in.
type Folder struct {
	Path     string
	Setting  string // that names it
	Database bool   // SQLite's files are in it
}

// Disk is the file system that a folder is on.
type Disk struct {
	Free, Size       uint64 // bytes
	FreeFiles, Files uint64 // how many files it takes; Files 0: any number
	Kind             string // "tmpfs", "nfs" and the like; "": an ordinary one
	// Writable is why the user who asks may not write to the folder, nil if they may.
	Writable error
}

// network says that the file system is one of several machines.
func (d *Disk) network() bool {
	return slices.Contains([]string{"nfs", "cifs", "smb", "ceph", "afs"}, d.Kind)
}

const (
	soonFull = 2 << 30   // bytes
	full     = 256 << 20 // an archive of somebody who moves here is larger
)

func (e *Examination) disk(context.Context) Result {
	if len(e.Folders) == 0 {
		return notTried("nothing is kept on this machine")
	}
	var all []Result
	for _, f := range e.Folders {
		d, err := e.Disk(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Development:
			all = append(all, warning(f.Path+" does not exist yet", "Start the server, which makes it, or run this where it was started"))
			continue
		case errors.Is(err, fs.ErrNotExist):
			all = append(all, failed(f.Path+" does not exist", "Make it for the server's user (install -d -m 700 -o portico -g portico "+f.Path+"), or correct "+f.Setting))
			continue
		case err != nil:
			all = append(all, failed(fmt.Sprintf("%s: %v", f.Path, err), "Run this as the server's user (runuser -u portico -- portico doctor …)"))
			continue
		}
		small, little := bytes(d.Free), d.Free*100/max(d.Size, 1)
		found := fmt.Sprintf("%s has %s free (%d %%)", f.Path, small, little)
		switch {
		case d.Writable != nil:
			all = append(all, failed(fmt.Sprintf("%s cannot be written to (%v)", f.Path, d.Writable),
				"Give it to the server's user (chown -R portico:portico "+f.Path+"), or run this as that user; on a unit with ProtectSystem, name it in StateDirectory or ReadWritePaths"))
		case d.Kind == "tmpfs" || d.Kind == "ramfs":
			all = append(all, failed(f.Path+" is in memory ("+d.Kind+"): with the next start of the machine it is empty", "Set "+f.Setting+" to a folder on a disk"))
		case f.Database && d.network():
			all = append(all, failed(f.Path+" is on a file system of the network ("+d.Kind+"), where SQLite's locks do not hold", "Set "+f.Setting+" to a folder on a disk of this machine, or keep the data in Postgres (PORTICO_DATABASE_URL)"))
		case d.Kind == "overlay":
			all = append(all, warning(f.Path+" is in a container's own layer, and lost with the container", "Mount a volume there"))
		case d.Free < full:
			all = append(all, failed(found, "Make room, or move "+f.Setting+" to a larger disk: without room nothing can be written"))
		case d.Free < soonFull || little < 5:
			all = append(all, warning(found, "Make room soon, or move "+f.Setting+" to a larger disk"))
		case d.Files > 0 && d.FreeFiles*100/d.Files < 5:
			all = append(all, warning(fmt.Sprintf("%s takes %d more files (%d %%)", f.Path, d.FreeFiles, d.FreeFiles*100/d.Files), "Move "+f.Setting+" to a file system with more inodes"))
		default:
			all = append(all, ok("%s", found))
		}
	}
	return worst(all...)
}

func bytes(n uint64) string {
	if n < 10<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// File is one that is the server's.
type File struct {
	Path  string
	Mode  fs.FileMode
	Owner string
	Group bool // its group may read it without harm
	// Wanted is the owner of the folder it is in, "" where that is not to be the same.
	Wanted string
}

func (e *Examination) files(context.Context) Result {
	files, err := e.Files()
	if err != nil {
		return failed(brief(err.Error()), "Run this as the server's user (runuser -u portico -- portico doctor …)")
	}
	if len(files) == 0 {
		return notTried("there are no files of the server here yet")
	}
	var all []Result
	for _, f := range files {
		open, mode := f.Mode.Perm()&0o077, "600"
		if f.Mode.IsDir() {
			mode = "700"
		}
		if f.Group {
			open, mode = f.Mode.Perm()&0o007, "o-rwx"
		}
		switch {
		case open != 0:
			all = append(all, failed(fmt.Sprintf("others on this machine may read %s (mode %04o)", f.Path, f.Mode.Perm()), "chmod "+mode+" "+f.Path))
		case f.Wanted != "" && f.Owner != f.Wanted:
			all = append(all, failed(fmt.Sprintf("%s belongs to %s, and its folder to %s: the server may not be able to write it", f.Path, f.Owner, f.Wanted),
				fmt.Sprintf("chown %s %s (a command was run as another user than the server's)", f.Wanted, f.Path)))
		default:
			all = append(all, ok("%s", f.Path))
		}
	}
	if r := worst(all...); r.State != OK {
		return r
	}
	return ok("nobody else on this machine reads them")
}

const fewFiles = 8192

func (e *Examination) openFiles(ctx context.Context) Result {
	if e.ask(ctx).err != nil {
		return notTried("the server does not run") // another process may have its number by now
	}
	if e.OpenFiles == nil {
		return notTried("not known where the data is in Postgres")
	}
	limit, err := e.OpenFiles()
	if err != nil {
		return notTried(brief(err.Error()))
	}
	if limit < fewFiles {
		return warning(fmt.Sprintf("the server may have %d open at a time, connections included", limit), "Set LimitNOFILE=65536 in its unit (systemctl edit portico), and restart it")
	}
	return ok("the server may have %d open at a time", limit)
}

func (e *Examination) mail(ctx context.Context) Result {
	if e.Mail == nil {
		if e.Development {
			return notTried("a development server")
		}
		return warning("no mail server is configured: nobody can confirm an address, reset a password or delete an account", "Set PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS")
	}
	r := e.Mail(ctx)
	switch {
	case r.Err != nil:
		return failed(r.Server+": "+brief(r.Err.Error()), strings.Join(r.Advice, " "))
	case !r.Encrypted && !near(r.Server):
		return warning(r.Server+" takes mails unencrypted: who listens in reads the codes", "Use smtps:// in PDS_EMAIL_SMTP_URL, or a port where the mail server offers STARTTLS, unless it is on this machine or in a closed network")
	case e.Mailed != "":
		return Result{State: OK, Found: r.Server + " took a letter to " + e.Mailed, Do: strings.Join(r.Advice, " ")}
	}
	return ok("%s takes the login and the sender (--mail ADDRESS sends a letter)", r.Server)
}

// Backup is what is known of the backups to one place.
type Backup struct {
	Place   string
	Last    time.Time // of the latest that is whole; zero: there is none
	Failure string    // of a try since; "": there was none
}

// oldBackup is how old the latest backup may be: twice as old as one that is made each
// night.
const oldBackup = 48 * time.Hour

func (e *Examination) backup(context.Context) Result {
	places, err := e.Backups()
	if err != nil {
		return failed(brief(err.Error()), "Make a backup (portico backup --to PLACE), which writes that file anew")
	}
	if len(places) == 0 {
		return notTried("of none is known here (portico backup --to PLACE notes when it made one; copies to a folder are not noted)")
	}
	var all []Result
	for _, b := range places {
		place := brief(b.Place)
		again := "Make one, and look at what is to make them (systemctl list-timers): portico backup --to " + place
		if b.Failure != "" {
			again = "The last try failed: " + brief(b.Failure) + ". " + again
		}
		age := e.Now().Sub(b.Last)
		switch {
		case b.Last.IsZero():
			all = append(all, failed("there is no backup at "+place+" yet", again))
		case age > oldBackup:
			all = append(all, failed(fmt.Sprintf("the latest backup at %s is of %s", place, day(b.Last)), again))
		case b.Failure != "":
			all = append(all, warning(fmt.Sprintf("the latest backup at %s is of %s, and a try since has failed", place, b.Last.UTC().Format(time.DateTime)), again))
		default:
			all = append(all, ok("%s, %s", place, b.Last.UTC().Format(time.DateTime)))
		}
	}
	return worst(all...)
}

// near says whether a mail server, host:port, is on this machine or in a private network,
// where a name is taken for one elsewhere.
func near(server string) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (a.IsLoopback() || a.IsPrivate())
}

func (e *Examination) blobs(ctx context.Context) Result {
	if e.Bucket == nil {
		return ok("in a folder (see disk)")
	}
	err := e.Bucket(ctx)
	if err == nil {
		return ok("%s takes objects, and removes them", e.BucketName)
	}
	code := ""
	if answered, is := errors.AsType[minio.ErrorResponse](err); is {
		code = answered.Code
	}
	do := "Look at PDS_BLOBSTORE_S3_ENDPOINT, and whether this machine can reach it"
	switch {
	case code == minio.NoSuchBucket || strings.HasSuffix(err.Error(), ": no such bucket"):
		do = "Make the bucket, or correct PDS_BLOBSTORE_S3_BUCKET, PDS_BLOBSTORE_S3_REGION and PDS_BLOBSTORE_S3_ENDPOINT"
	case code == minio.AccessDenied || code == "AllAccessDisabled":
		do = "Let the key of PDS_BLOBSTORE_S3_ACCESS_KEY_ID list the bucket, and get, put and delete objects in it (s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject)"
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch":
		do = "Correct PDS_BLOBSTORE_S3_ACCESS_KEY_ID and PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY"
	case code == "RequestTimeTooSkewed":
		do = "Set this machine's clock (timedatectl set-ntp true)"
	}
	return failed(brief(err.Error()), do)
}
