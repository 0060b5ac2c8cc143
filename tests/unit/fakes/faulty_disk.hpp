// A disk that fails where the test says: while one is there, SQLite reaches the real files through it. It counts what
// is done to them.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstddef>
#include <limits>
#include <new>

namespace cmssh::fakes {

class FaultyDisk {
public:
    FaultyDisk() : real_(::sqlite3_vfs_find(nullptr)), vfs_(*real_) {
        vfs_.zName = "faulty";
        vfs_.pAppData = this;
        vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
        vfs_.xOpen = open;
        vfs_.xDelete = remove;
        vfs_.xAccess = [](sqlite3_vfs* vfs, const char* name, int flags, int* out) {
            return self(vfs).real_->xAccess(self(vfs).real_, name, flags, out);
        };
        vfs_.xFullPathname = [](sqlite3_vfs* vfs, const char* name, int size, char* out) {
            return self(vfs).real_->xFullPathname(self(vfs).real_, name, size, out);
        };
        EXPECT_EQ(::sqlite3_vfs_register(&vfs_, 1), SQLITE_OK);
    }
    FaultyDisk(const FaultyDisk&) = delete;
    FaultyDisk& operator=(const FaultyDisk&) = delete;
    ~FaultyDisk() {
        ::sqlite3_vfs_unregister(&vfs_);
        ::sqlite3_vfs_register(real_, 1);
    }

    static constexpr int kNever = std::numeric_limits<int>::max();

    // Of the calls that change a file from now on, `after` succeed and the next `times` fail with `code`.
    void fail(int code, int after = 0, int times = kNever) {
        code_ = code;
        calls_ = 0;
        after_ = after;
        times_ = times;
    }
    void heal() { fail(SQLITE_OK, kNever); }
    // Reads fail too.
    void fail_reads(bool fail) { reads_fail_ = fail; }
    // Files that are opened from now on are of a file system that is mounted read only.
    void mount_read_only(bool read_only) { read_only_ = read_only; }

    // Since the last call of fail() or heal().
    [[nodiscard]] int calls() const { return calls_; }
    [[nodiscard]] int syncs() const { return syncs_; }
    [[nodiscard]] int writes() const { return writes_; }
    void forget_counts() { syncs_ = writes_ = 0; }

private:
    // The real file lies behind it.
    struct File {
        sqlite3_file base;
        FaultyDisk* disk;
        [[nodiscard]] sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
    };
    static FaultyDisk& self(sqlite3_vfs* vfs) { return *static_cast<FaultyDisk*>(vfs->pAppData); }
    static FaultyDisk& disk(sqlite3_file* file) { return *reinterpret_cast<File*>(file)->disk; }
    static sqlite3_file* real(sqlite3_file* file) { return reinterpret_cast<File*>(file)->real(); }

    bool next_fails() {
        const int call = calls_++;
        return call >= after_ && call - after_ < times_;
    }

    static int open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
        auto* ours = new (file) File{};
        ours->disk = &self(vfs);
        if (ours->disk->read_only_) {
            // What SQLite's own layer makes of EROFS.
            flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
        }
        // A full disk has room for no further file; those that are there it opens.
        if (name != nullptr && ::access(name, F_OK) != 0 && ours->disk->next_fails()) {
            return SQLITE_CANTOPEN;
        }
        const int code = ours->disk->real_->xOpen(ours->disk->real_, name, ours->real(), flags, out_flags);
        if (code == SQLITE_OK) {
            ours->base.pMethods = &methods();
        }
        return code;
    }
    static int remove(sqlite3_vfs* vfs, const char* name, int sync) {
        return self(vfs).next_fails() ? SQLITE_IOERR_DELETE : self(vfs).real_->xDelete(self(vfs).real_, name, sync);
    }

    static const sqlite3_io_methods& methods() {
        static const sqlite3_io_methods table = [] {
            sqlite3_io_methods it{};
            it.iVersion = 2;
            it.xClose = [](sqlite3_file* file) { return real(file)->pMethods->xClose(real(file)); };
            it.xRead = [](sqlite3_file* file, void* to, int size, sqlite3_int64 at) {
                return disk(file).reads_fail_ ? SQLITE_IOERR_READ
                                              : real(file)->pMethods->xRead(real(file), to, size, at);
            };
            it.xWrite = [](sqlite3_file* file, const void* from, int size, sqlite3_int64 at) {
                ++disk(file).writes_;
                return disk(file).next_fails() ? disk(file).code_
                                               : real(file)->pMethods->xWrite(real(file), from, size, at);
            };
            it.xTruncate = [](sqlite3_file* file, sqlite3_int64 size) {
                return disk(file).next_fails() ? SQLITE_IOERR_TRUNCATE
                                               : real(file)->pMethods->xTruncate(real(file), size);
            };
            it.xSync = [](sqlite3_file* file, int flags) {
                ++disk(file).syncs_;
                return disk(file).next_fails() ? SQLITE_IOERR_FSYNC : real(file)->pMethods->xSync(real(file), flags);
            };
            it.xFileSize = [](sqlite3_file* file, sqlite3_int64* size) {
                return real(file)->pMethods->xFileSize(real(file), size);
            };
            it.xLock = [](sqlite3_file* file, int level) { return real(file)->pMethods->xLock(real(file), level); };
            it.xUnlock = [](sqlite3_file* file, int level) { return real(file)->pMethods->xUnlock(real(file), level); };
            it.xCheckReservedLock = [](sqlite3_file* file, int* out) {
                return real(file)->pMethods->xCheckReservedLock(real(file), out);
            };
            it.xFileControl = [](sqlite3_file* file, int what, void* argument) {
                return real(file)->pMethods->xFileControl(real(file), what, argument);
            };
            it.xSectorSize = [](sqlite3_file* file) { return real(file)->pMethods->xSectorSize(real(file)); };
            it.xDeviceCharacteristics = [](sqlite3_file* file) {
                return real(file)->pMethods->xDeviceCharacteristics(real(file));
            };
            it.xShmMap = [](sqlite3_file* file, int page, int size, int extend, void volatile** out) {
                return extend != 0 && disk(file).next_fails()
                           ? SQLITE_IOERR_SHMSIZE
                           : real(file)->pMethods->xShmMap(real(file), page, size, extend, out);
            };
            it.xShmLock = [](sqlite3_file* file, int offset, int count, int flags) {
                return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
            };
            it.xShmBarrier = [](sqlite3_file* file) { real(file)->pMethods->xShmBarrier(real(file)); };
            it.xShmUnmap = [](sqlite3_file* file, int remove_it) {
                return real(file)->pMethods->xShmUnmap(real(file), remove_it);
            };
            return it;
        }();
        return table;
    }

    sqlite3_vfs* real_;
    sqlite3_vfs vfs_;
    int code_ = SQLITE_OK;
    int after_ = kNever;
    int times_ = kNever;
    int calls_ = 0;
    int syncs_ = 0;
    int writes_ = 0;
    bool reads_fail_ = false;
    bool read_only_ = false;
};

}  // namespace cmssh::fakes
