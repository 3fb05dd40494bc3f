# Stands before the text of deb-systemd-helper: what that uses of four modules. To compile the modules is four fifths of
# its run. They are loaded all the same where something else is asked of them.
package rolecast::brief;
use strict;
use warnings;

my %brief = (
    'File::Path' => { make_path => \&make_path },
    'File::Temp' => { tempfile => \&tempfile },
    'Getopt::Long' => { GetOptions => \&get_options },
);
# Its words are written only when somebody debugs the script.
*Data::Dumper::Dumper = sub { '' };
$INC{'Data/Dumper.pm'} = $0;

sub file {
    my ($module) = @_;
    return $module =~ s,::,/,r . '.pm';
}

for my $module (keys %brief) {
    $INC{file($module)} = $0;
    my $import = sub {
        my (undef, @names) = @_;
        my $caller = caller;
        @names = keys %{ $brief{$module} } unless @names;
        if (grep { !$brief{$module}{$_} } @names) {
            whole();
            eval "package $caller; ${module}->import(\@names); 1" or die $@;
            return;
        }
        no strict 'refs';
        *{"${caller}::$_"} = $brief{$module}{$_} for @names;
    };
    no strict 'refs';
    *{"${module}::import"} = $import;
}

# Loads the modules themselves.
sub whole {
    my @modules = grep { $INC{file($_)} eq $0 } keys %brief;
    for my $module (@modules) {
        no strict 'refs';
        delete ${"${module}::"}{import};
        delete $INC{file($module)};
    }
    require(file($_)) for @modules;
}

sub make_path {
    for my $path (@_) {
        next if !ref $path && (-d $path || mkdir $path);
        whole();
        return File::Path::make_path(@_);
    }
}

sub tempfile {
    my ($template, %options) = @_;
    my ($directory, $suffix, $unlink) = delete @options{qw(DIR SUFFIX UNLINK)};
    my $name = $template =~ s/X{4,}$/$$/r;
    if (defined $directory && defined $suffix && defined $unlink && !$unlink && !%options && $name ne $template) {
        my $path = "$directory/$name$suffix";
        if (!-e $path && !-l $path && open my $file, '+>', $path) {
            return ($file, $path);
        }
    }
    whole();
    return File::Temp::tempfile(@_);
}

sub get_options {
    my %wanted = @_;
    my $is_plain = sub { $_[0] !~ /^-/ || ($_[0] =~ /^--(\w+)$/ && ref $wanted{$1}) };
    if (grep { !$is_plain->($_) } @ARGV) {
        whole();
        return Getopt::Long::GetOptions(@_);
    }
    my @others;
    for my $argument (@ARGV) {
        if ($argument !~ /^--(\w+)$/) {
            push @others, $argument;
        } elsif (ref $wanted{$1} eq 'CODE') {
            $wanted{$1}->($1, 1);
        } else {
            ${ $wanted{$1} } = 1;
        }
    }
    @ARGV = @others;
    return 1;
}
